// Speech (16-bit WAV) to a CSV of curves, one row a frame, the one of examples/c/wav_to_csv.c:
//   mcs -out:WavToCsv.exe examples/csharp/WavToCsv.cs examples/unity/Runtime/FaceTalkNative.cs examples/unity/Runtime/FaceTalkStream.cs
//   LD_LIBRARY_PATH=FOLDER_OF_LIBFACETALK mono WavToCsv.exe MODEL_FOLDER speech.wav [LOOK_AHEAD_S] > curves.csv
using System;
using System.Globalization;
using System.IO;
using System.Text;
using FaceTalk;

internal static class WavToCsv
{
    private static int Main(string[] words)
    {
        double lookAhead = double.PositiveInfinity; // hear the whole recording first
        if (words.Length < 2 || words.Length > 2 && !double.TryParse(
                words[2], NumberStyles.Float, CultureInfo.InvariantCulture, out lookAhead))
            return Fail(2, "usage: WavToCsv MODEL_FOLDER SPEECH.wav [LOOK_AHEAD_S]");
        try
        {
            using (var file = new BufferedStream(File.OpenRead(words[1])))
            using (var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)))
            {
                var sound = new Wav(file);
                if (!sound.Found) return Fail(2, $"error: {words[1]} is not a 16-bit WAV");
                output.NewLine = "\n";
                Convert(words[0], sound, lookAhead, output);
            }
            return 0;
        }
        catch (Exception error) when (error is FileNotFoundException || error is DirectoryNotFoundException
                                      || error is UnauthorizedAccessException)
        {
            return Fail(2, $"error: cannot open {words[1]}");
        }
        catch (Exception error) when (error is FaceTalkException || error is IOException)
        {
            return Fail(1, $"error: {error.Message}");
        }
    }

    private static int Fail(int code, string line)
    {
        Console.Error.WriteLine(line);
        return code;
    }

    private static void Convert(string folder, Wav sound, double lookAhead, TextWriter output)
    {
        FaceTalkStreamOptions options = FaceTalkStreamOptions.Default();
        options.SampleRate = sound.Rate;
        options.LookAhead = lookAhead;
        using (var model = new FaceTalkModel(folder))
        using (var stream = new FaceTalkStream(model, options))
        {
            int width = model.CurveNames.Count, got;
            var samples = new float[4096];
            var curves = new float[64 * width];
            long frame = 0;
            output.WriteLine("time," + string.Join(",", model.CurveNames));
            do
            {
                got = sound.Read(samples);
                if (got > 0) stream.Push(samples, 0, got);
                else stream.Finish();
                int frames;
                while ((frames = stream.Pull(curves)) > 0)
                {
                    for (int row = 0; row < frames; ++row)
                    {
                        output.Write(Number((frame++ + 0.5) / model.Fps));
                        for (int i = 0; i < width; ++i) output.Write("," + Number(curves[row * width + i]));
                        output.WriteLine();
                    }
                }
            } while (got > 0);
        }
    }

    private static string Number(double value) => value.ToString("F6", CultureInfo.InvariantCulture);

    /// <summary>The sound of a 16-bit WAV, whatever else ffmpeg, recorders and editors put before it.</summary>
    private sealed class Wav
    {
        public readonly bool Found;
        public readonly int Rate;
        private readonly Stream file;
        private readonly byte[] bytes; // of one sample of every channel
        private uint left; // what a program that could not know it wrote there is more than there is

        public Wav(Stream file)
        {
            this.file = file;
            byte[] head = new byte[12], format = new byte[16];
            if (!Fill(head, 12) || Name(head, 0) != "RIFF" || Name(head, 8) != "WAVE") return;
            while (Fill(head, 8))
            {
                uint size = BitConverter.ToUInt32(head, 4), read = 0;
                if (Name(head, 0) == "data")
                {
                    int tag = BitConverter.ToUInt16(format, 0), channels = BitConverter.ToUInt16(format, 2);
                    Rate = BitConverter.ToInt32(format, 4);
                    left = size;
                    bytes = new byte[2 * channels];
                    Found = (tag == 1 || tag == 0xFFFE) && channels > 0 && BitConverter.ToUInt16(format, 14) == 16;
                    return;
                }
                if (Name(head, 0) == "fmt ")
                {
                    read = Math.Min(size, 16);
                    if (!Fill(format, (int)read)) return;
                }
                // Chunks begin at even places; a pipe cannot be sought in.
                for (long rest = (long)size + (size & 1) - read; rest > 0; --rest)
                    if (file.ReadByte() < 0) return;
            }
        }

        /// <summary>The next samples, means of the channels; 0 at the end.</summary>
        public int Read(float[] samples)
        {
            int count = 0;
            for (; count < samples.Length && left >= bytes.Length && Fill(bytes, bytes.Length); ++count)
            {
                samples[count] = 0f;
                for (int at = 0; at < bytes.Length; at += 2)
                    samples[count] += BitConverter.ToInt16(bytes, at) / 32768f / (bytes.Length / 2);
                left -= (uint)bytes.Length;
            }
            return count;
        }

        private bool Fill(byte[] into, int count)
        {
            int done = 0;
            for (int got; done < count && (got = file.Read(into, done, count - done)) > 0;) done += got;
            return done == count;
        }

        private static string Name(byte[] head, int at) => Encoding.ASCII.GetString(head, at, 4);
    }
}
