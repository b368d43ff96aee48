// What FaceTalkStream.cs does besides examples/csharp: MODEL_FOLDER and a check on the command line, answers a line each on
// standard output.
using System;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using FaceTalk;

internal static class StreamChecks
{
    private static string folder;

    private static void Main(string[] words)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        folder = words[0];
        switch (words[1])
        {
            case "layout": Layout(); break;
            case "errors": Errors(); break;
            case "order": Order(); break;
            case "garbage": Garbage(); break;
            case "frames": Frames(words[2], words[3]); break;
            case "late": Late(); break;
            case "load": Say("load", () => new FaceTalkModel(folder).Dispose()); break;
        }
    }

    // "name size offsets", and the statuses.
    private static void Layout()
    {
        foreach (Type type in new[] { typeof(FaceTalkStreamOptions), typeof(FaceTalkStyle), typeof(NativeFrames) })
        {
            Console.Write($"{type.Name} {Marshal.SizeOf(type)}");
            foreach (var field in type.GetFields(System.Reflection.BindingFlags.Instance
                         | System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.NonPublic))
                Console.Write($" {Marshal.OffsetOf(type, field.Name)}");
            Console.WriteLine();
        }
        foreach (FaceTalkStatus status in Enum.GetValues(typeof(FaceTalkStatus))) Console.WriteLine($"{status} {(int)status}");
    }

    private static void Say(string name, Action call)
    {
        try
        {
            call();
            Console.WriteLine($"{name}: fine");
        }
        catch (FaceTalkException error)
        {
            Console.WriteLine($"{name}: {error.Status}: {error.Message}");
        }
        catch (Exception error)
        {
            Console.WriteLine($"{name}: {error.GetType().Name}: {error.Message.Replace("\n", " ")}");
        }
    }

    private static FaceTalkStreamOptions Options(int rate = 16000, double lookAhead = 0.2, int steps = 0)
    {
        FaceTalkStreamOptions options = FaceTalkStreamOptions.Default();
        options.SampleRate = rate;
        options.LookAhead = lookAhead;
        options.Steps = steps;
        return options;
    }

    private static void Errors()
    {
        Say("no model", () => new FaceTalkModel(folder + "/nothing/ä"));
        Say("null model", () => new FaceTalkModel(null));
        Say("zero in path", () => new FaceTalkModel("a\0b"));
        using (var other = new FaceTalkModel(folder))
        {
            Say("no listener", () => other.UseWhisper());
            Say("no such listener", () => other.UseWhisper(folder + "/ä"));
            Say("zero in listener", () => other.UseWhisper("a\0b"));
        }
        var model = new FaceTalkModel(folder);
        Say("rate", () => new FaceTalkStream(model, Options(rate: 10)));
        Say("look-ahead", () => new FaceTalkStream(model, Options(lookAhead: -1)));
        Say("zeros", () => new FaceTalkStream(model, new FaceTalkStreamOptions()));
        Say("live without end", () => new FaceTalkLive(model, Options(lookAhead: double.PositiveInfinity), 0.1, true));
        var stream = new FaceTalkStream(model);
        var style = FaceTalkStyle.Default();
        style.Smile = 7;
        Say("style", () => stream.SetStyle(style));
        Say("not finite", () => stream.Push(new[] { 0f, float.NaN }, 0, 2));
        Say("null sound", () => stream.Push(null, 0, 1));
        Say("beyond", () => stream.Push(new float[4], 2, 3));
        Say("before", () => stream.Push(new float[4], -1, 3));
        Say("no room", () => stream.Pull(new float[3]));
        Say("no pose room", () => stream.Pull(new float[60], null, new float[5]));
        Say("nothing asked", () => stream.Pull(null));
        stream.Push(new float[16000], 0, 16000);
        Say("late style", () => stream.SetStyle(FaceTalkStyle.Default()));
        stream.Pull(new float[60]);
        Say("late pose", () => stream.Pull(null, null, new float[6]));
        stream.Finish();
        Say("after the end", () => stream.Push(new float[1], 0, 1));
        stream.Dispose();
        stream.Dispose();
        Say("disposed push", () => stream.Push(new float[1], 0, 1));
        Say("disposed pull", () => stream.Pull(new float[60]));
        Say("disposed ready", () => Console.WriteLine(stream.Ready));
        model.Dispose();
        Say("disposed model", () => new FaceTalkStream(model));
    }

    // Streams keep their model, whoever goes first, by hand or by the garbage collector.
    private static void Order()
    {
        var sound = new float[16000];
        var curves = new float[100 * 60];
        var model = new FaceTalkModel(folder);
        using (var stream = new FaceTalkStream(model))
        {
            model.Dispose();
            stream.Push(sound, 0, sound.Length);
            stream.Finish();
            Console.WriteLine($"frames {stream.Pull(curves)}");
        }
        for (int i = 0; i < 20; ++i)
        {
            Forget(sound);
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        Console.WriteLine("collected");
    }

    private static void Forget(float[] sound)
    {
        var model = new FaceTalkModel(folder);
        for (int i = 0; i < 3; ++i) new FaceTalkStream(model).Push(sound, 0, 800);
        Say("refused", () => new FaceTalkStream(model, Options(rate: 1)));
    }

    private static void Garbage()
    {
        using (var model = new FaceTalkModel(folder))
        using (var stream = new FaceTalkStream(model, Options(rate: 48000)))
        {
            var sound = new float[960];
            float[] curves = new float[4 * model.CurveNames.Count], tongue = new float[4 * model.TongueNames.Count];
            var pose = new float[4 * FaceTalkStream.PoseCount];
            long before = 0;
            int frames = 0;
            for (int i = 0; i < 150; ++i)
            {
                if (i == 50) before = GC.GetAllocatedBytesForCurrentThread(); // what was compiled meanwhile is no garbage
                stream.Push(sound, 0, sound.Length);
                while (stream.Ready > 0) frames += stream.Pull(curves, tongue, pose);
            }
            Console.WriteLine($"garbage {GC.GetAllocatedBytesForCurrentThread() - before} frames {frames}");
        }
    }

    // Twenty seconds of sound that nobody works on, and two in which somebody does; numbers that are none among them.
    private static void Late()
    {
        double now = 0;
        FaceTalkSound.Clock = () => now;
        using (var model = new FaceTalkModel(folder))
        using (var live = new FaceTalkLive(model, Options(), 0.05, false))
        {
            var block = new float[320];
            var random = new Random(1);
            float opened = 0f;
            for (int i = 0; i < 1100; ++i, now += 0.02)
            {
                for (int at = 0; at < block.Length; ++at) block[at] = (float)random.NextDouble() - 0.5f;
                block[7] = float.NaN;
                block[8] = float.PositiveInfinity;
                float first = block[0];
                live.Hear(block, 1);
                if (block[0] != first) Console.WriteLine("sound was changed");
                if (i < 1000) continue;
                live.Work();
                live.Show(0.02);
                foreach (float weight in live.Weights) opened = Math.Max(opened, weight);
            }
            Console.WriteLine($"{live.Overruns} {live.Pending:R} {live.Seconds - now:R} {opened:R} {live.Delay:R}");
        }
    }

    // Rows of curves, tongue and pose of a raw mono recording of 48 kHz, to a raw file.
    private static void Frames(string from, string to)
    {
        byte[] bytes = File.ReadAllBytes(from);
        var sound = new float[bytes.Length / 4];
        Buffer.BlockCopy(bytes, 0, sound, 0, bytes.Length);
        var style = FaceTalkStyle.Default();
        style.Smile = 0.5;
        style.HeadMotion = 1.5;
        using (var file = new BinaryWriter(File.Create(to)))
        using (var model = new FaceTalkModel(folder))
        using (var stream = new FaceTalkStream(model, Options(rate: 48000, steps: 1)))
        {
            stream.SetStyle(style);
            int width = model.CurveNames.Count, tongues = model.TongueNames.Count;
            float[] curves = new float[3 * width], tongue = new float[5 * tongues], pose = new float[7 * 6];
            for (int at = 0, count; at <= sound.Length; at += 5000)
            {
                count = Math.Min(5000, sound.Length - at);
                stream.Push(sound, at, count);
                if (count < 5000) stream.Finish();
                for (int got; (got = stream.Pull(curves, tongue, pose)) > 0;)
                {
                    for (int row = 0; row < got; ++row)
                    {
                        for (int i = 0; i < width; ++i) file.Write(curves[row * width + i]);
                        for (int i = 0; i < tongues; ++i) file.Write(tongue[row * tongues + i]);
                        for (int i = 0; i < 6; ++i) file.Write(pose[row * 6 + i]);
                    }
                }
            }
            Console.WriteLine($"{stream.Steps} {stream.LatencySeconds:R} {model.Fps:R} {string.Join(" ", model.CurveNames)} "
                              + string.Join(" ", model.TongueNames));
        }
    }
}
