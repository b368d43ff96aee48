// A scene for FaceTalkHead without Unity: MODEL_FOLDER sound.f32 OUT, a command a line on standard input. Mono sound of
// 48 kHz goes through the head's filter in blocks of 1024 by two channels, the right one at half the level, and after each a
// picture is drawn, on a clock that only the scene moves. A line of OUT is a picture: Seconds, weights of all shapes, the
// bone's rotation in the world. OUT.f32 is what the filter left in the left channel. Answers are on standard output.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Threading;
using FaceTalk;
using UnityEngine;

internal static class HeadScene
{
    private const int Rate = 48000, Block = 1024;
    private static double now = 1000.0;
    private static readonly FaceTalkHead Head = new FaceTalkHead();
    private static readonly SkinnedMeshRenderer[] Faces = { new SkinnedMeshRenderer(), new SkinnedMeshRenderer() };
    private static Action draw;
    private static Action<float[], int> filter;

    private static void Main(string[] words)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        FaceTalkSound.Clock = () => Volatile.Read(ref now);
        var bytes = File.ReadAllBytes(words[1]);
        var sound = new float[bytes.Length / 4];
        Buffer.BlockCopy(bytes, 0, sound, 0, bytes.Length);
        Application.streamingAssetsPath = Path.GetDirectoryName(words[0]);
        Head.modelFolder = Path.GetFileName(words[0]);
        Faces[0].sharedMesh = new Mesh(100f, "face.jawOpen", "MouthSmile_R", "mouthSmileLeft", "browInnerUp", "other");
        Faces[1].sharedMesh = new Mesh(1f, "tongueOut", "eyeBlinkLeft", "cheekPuffLeft", "cheekPuff");
        Head.below.AddRange(Faces);
        Head.beside.Add(new AudioSource());
        // A body that looks elsewhere than along the world's z, and a bone with axes of its own.
        Head.body = new Transform { localRotation = new Quaternion(0f, 0.6f, 0f, 0.8f) };
        Head.transform = Head.body;
        var neck = new Transform { parent = Head.body, localRotation = new Quaternion(0.5f, 0.5f, -0.5f, 0.5f) };
        Head.head = new Transform { parent = neck, localRotation = new Quaternion(0f, 0f, 0.28f, 0.96f) };
        draw = (Action)Delegate.CreateDelegate(typeof(Action), Head, "LateUpdate");
        filter = (Action<float[], int>)Delegate.CreateDelegate(typeof(Action<float[], int>), Head, "OnAudioFilterRead");
        using (var pictures = new StreamWriter(words[2]))
        using (var heard = new BinaryWriter(File.Create(words[2] + ".f32")))
        {
            for (string line; (line = Console.ReadLine()) != null;) Obey(line.Split(' '), sound, pictures, heard);
        }
        Head.enabled = false;
    }

    private static void Obey(string[] words, float[] sound, TextWriter pictures, BinaryWriter heard)
    {
        switch (words[0])
        {
            case "play": // SAMPLES: from the beginning of the sound, then silence
                Play(int.Parse(words[1]), sound, pictures, heard);
                break;
            case "wait": // PICTURES: no block comes
                for (int i = 0; i < int.Parse(words[1]); ++i) Picture(pictures);
                break;
            case "set": // FIELD VALUE
                var field = typeof(FaceTalkHead).GetField(words[1]);
                field.SetValue(Head, Convert.ChangeType(words[2], field.FieldType));
                break;
            case "enable":
                Head.enabled = true;
                Console.WriteLine($"enabled {Head.enabled} delay {Head.Delay:R}");
                break;
            case "disable":
                Head.enabled = false;
                Quaternion left = Head.head.localRotation;
                Console.WriteLine($"disabled {left.z:R} {left.w:R} {Weights()}");
                break;
            case "animate": // as an Animator does before each picture
                Head.head.localRotation = new Quaternion(0f, 0f, -0.28f, 0.96f);
                break;
            case "garbage":
                Garbage(sound);
                break;
            case "say": // SAMPLES of a clip, in two channels
                Say(int.Parse(words[1]), sound);
                break;
            case "device":
                AudioSettings.ChangeConfiguration();
                Console.WriteLine($"enabled {Head.enabled}");
                break;
        }
    }

    private static void Play(int samples, float[] sound, TextWriter pictures, BinaryWriter heard)
    {
        var data = new float[2 * Block];
        for (int at = 0; at < samples; at += Block)
        {
            Fill(data, at, sound);
            filter(data, 2);
            for (int i = 0; i < Block; ++i) heard.Write(data[2 * i]);
            // A thread that works gets all the time that it takes, while the scene's stands still.
            for (int tries = 0; Head.ownThread && Head.Pending > 0 && tries < 20000; ++tries) Thread.Sleep(1);
            Picture(pictures);
        }
    }

    private static void Fill(float[] data, int at, float[] sound)
    {
        for (int i = 0; i < Block; ++i)
        {
            data[2 * i] = at + i < sound.Length ? sound[at + i] : 0f;
            data[2 * i + 1] = data[2 * i] / 2f;
        }
    }

    private static void Picture(TextWriter pictures)
    {
        Time.unscaledDeltaTime = Block / (float)Rate;
        draw();
        Quaternion bone = Head.head.rotation;
        pictures.WriteLine($"{Head.Seconds:R} {Weights()} {bone.x:R} {bone.y:R} {bone.z:R} {bone.w:R}");
        Volatile.Write(ref now, now + Block / (double)Rate);
    }

    private static string Weights()
    {
        var weights = new List<string>();
        foreach (SkinnedMeshRenderer face in Faces)
            for (int i = 0; i < face.sharedMesh.blendShapeCount; ++i) weights.Add(face.GetBlendShapeWeight(i).ToString("R"));
        return string.Join(" ", weights);
    }

    private static void Garbage(float[] sound)
    {
        var data = new float[2 * Block];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int at = 0; at < 60 * Block; at += Block)
        {
            Fill(data, at, sound);
            filter(data, 2);
            draw();
            Volatile.Write(ref now, now + Block / (double)Rate);
        }
        long made = GC.GetAllocatedBytesForCurrentThread() - before;
        before = GC.GetAllocatedBytesForCurrentThread();
        GC.KeepAlive(new byte[100]);
        Console.WriteLine($"garbage {made} control {GC.GetAllocatedBytesForCurrentThread() - before}");
    }

    private static void Say(int samples, float[] sound)
    {
        AudioClip clip = AudioClip.Create("line", samples, 2, Rate, false);
        var data = new float[2 * samples];
        for (int i = 0; i < data.Length; ++i) data[i] = sound[i / 2];
        clip.SetData(data, 0);
        Head.Say(clip);
        var source = Head.GetComponent<AudioSource>();
        AudioClip first = source.clip;
        Head.Say(clip);
        AudioClip whole = source.clip;
        var played = new float[2 * whole.samples];
        whole.GetData(played, 0);
        bool isSame = true;
        for (int i = 0; i < played.Length; ++i) isSame &= played[i] == (i < data.Length ? data[i] : 0f);
        clip.isStreamed = true;
        string refused = "";
        try { Head.Say(clip); }
        catch (InvalidOperationException error) { refused = error.Message; }
        Console.WriteLine($"said {whole.samples} {isSame} {source.isPlaying} {first.isDestroyed} {whole.isDestroyed} {refused}");
    }
}
