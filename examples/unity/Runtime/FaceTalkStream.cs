// facetalk.h for C#: sound in, the motion of a face out. Handles free themselves, failures are exceptions.
//
//     var options = FaceTalkStreamOptions.Default();
//     options.SampleRate = 48000;
//     using (var model = new FaceTalkModel("models/default"))
//     using (var stream = new FaceTalkStream(model, options))
//     {
//         var curves = new float[64 * model.CurveNames.Count];
//         stream.Push(samples, 0, count);                     // any number of samples at a time
//         int frames = stream.Pull(curves);                   // rows that were written, 0: none is ready
//     }
//
// C# 7.0 and .NET Standard 2.0 without unsafe code, and nothing of Unity: with FaceTalkNative.cs it compiles anywhere. Push,
// Pull and Ready make no garbage. Structs are those of facetalk.h on machines of 64 bits, and tell their size as it asks.
using System;
using System.Collections.ObjectModel;
using System.Runtime.InteropServices;
using System.Text;

namespace FaceTalk
{
    /// <summary>facetalk_status, and NoLibrary where there is none that could say so.</summary>
    public enum FaceTalkStatus
    {
        NoLibrary = -1,
        Ok = 0,
        Invalid = 1,
        BadFile = 2,
        NoMemory = 3,
        Unsupported = 4,
        WrongState = 5,
        Internal = 6,
        Stopped = 7,
        DeviceFailed = 8,
    }

    /// <summary>What failed, in the library's own words.</summary>
    public sealed class FaceTalkException : Exception
    {
        public FaceTalkException(FaceTalkStatus status, string message, Exception inner = null)
            : base(message, inner)
        {
            Status = status;
        }

        public FaceTalkStatus Status { get; }
    }

    /// <summary>facetalk_stream_options; begin with Default().</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct FaceTalkStreamOptions
    {
        internal UIntPtr Size;

        /// <summary>Of the sound that will be pushed, Hz, 1000 to 768000; the library resamples.</summary>
        public int SampleRate;

        /// <summary>Steps of denoising, 0: the model's own.</summary>
        public int Steps;

        /// <summary>Seconds after a frame's middle that are heard before it is given, 0 to 60; PositiveInfinity:
        /// the whole recording, and no frame before Finish().</summary>
        public double LookAhead;

        /// <summary>Weight of classifier-free guidance, 0 to 20; exactly -1: the model's own.</summary>
        public double Guidance;

        /// <summary>Of the noise: equal seeds, sound and options give equal curves.</summary>
        public ulong Seed;

        /// <summary>16000 Hz, 0.2 s of look-ahead, the model's own steps and guidance, seed 0.</summary>
        public static FaceTalkStreamOptions Default()
        {
            Native.Require();
            Native.facetalk_stream_options_default(out FaceTalkStreamOptions options);
            return options;
        }
    }

    /// <summary>facetalk_style: sliders, of which none changes anything at its default. Begin with Default().</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct FaceTalkStyle : IEquatable<FaceTalkStyle>
    {
        internal UIntPtr Size;
        public double Intensity, Smile, BrowActivity, BlinkRate, GazeSteadiness, HeadMotion, Jaw, Lips;

        /// <summary>1, 0, 1, 1, 0, 1, 1, 1; what each does, and its range, says facetalk.h.</summary>
        public static FaceTalkStyle Default()
        {
            Native.Require();
            Native.facetalk_style_default(out FaceTalkStyle style, Native.SizeOf<FaceTalkStyle>());
            return style;
        }

        // That of every struct puts both into boxes.
        public bool Equals(FaceTalkStyle other) =>
            Intensity == other.Intensity && Smile == other.Smile && BrowActivity == other.BrowActivity
            && BlinkRate == other.BlinkRate && GazeSteadiness == other.GazeSteadiness
            && HeadMotion == other.HeadMotion && Jaw == other.Jaw && Lips == other.Lips;
    }

    /// <summary>A model; many threads and streams may use it at a time.</summary>
    public sealed class FaceTalkModel : IDisposable
    {
        internal readonly ModelHandle Handle;

        /// <param name="folder">config.json, audio/, motion/, and tongue/ with head/ for a tongue.</param>
        /// <exception cref="FaceTalkException">There is no library, or no model that it reads.</exception>
        public FaceTalkModel(string folder)
        {
            if (folder == null) throw new ArgumentNullException(nameof(folder));
            if (folder.IndexOf('\0') >= 0) throw new ArgumentException("a path with a zero", nameof(folder));
            Native.Require();
            int status = Native.facetalk_model_load(Encoding.UTF8.GetBytes(folder + "\0"), out IntPtr made);
            if (status == (int)FaceTalkStatus.BadFile)
                throw new FaceTalkException(FaceTalkStatus.BadFile, Native.LastError() + " (a model is the folder "
                    + "facetalk/models/default of the Python package, or what `facetalk assemble` wrote)");
            Native.Check(status);
            Handle = new ModelHandle(made);
            Fps = Native.facetalk_model_fps(Handle);
            CurveNames = Names(Native.facetalk_model_curve_count(Handle), Native.facetalk_model_curve_name);
            TongueNames = Names(Native.facetalk_model_tongue_count(Handle), Native.facetalk_model_tongue_name);
        }

        /// <summary>Lets Whisper hear, which people are heard better by and which takes more time. Before the first
        /// stream, and once.</summary>
        /// <param name="listener">A file with Whisper's weights; null for whisper/listener.safetensors in the model's
        /// folder, where `facetalk assemble --whisper --listener` puts it.</param>
        /// <exception cref="FaceTalkException">No weights, or a model without an adapter for Whisper.</exception>
        public void UseWhisper(string listener = null)
        {
            if (listener != null && listener.IndexOf('\0') >= 0)
                throw new ArgumentException("a path with a zero", nameof(listener));
            byte[] file = listener == null ? null : Encoding.UTF8.GetBytes(listener + "\0");
            Native.Check(Native.facetalk_model_use_whisper(Handle, file));
        }

        /// <summary>Frames a second.</summary>
        public double Fps { get; }

        /// <summary>Of the C curves: ARKit's, but "mouthSmile_L" for "mouthSmileLeft", and "browInnerUp" and
        /// "cheekPuff" once a side.</summary>
        public ReadOnlyCollection<string> CurveNames { get; }

        /// <summary>Of the U weights of the tongue, none of a model without a tongue that moves.</summary>
        public ReadOnlyCollection<string> TongueNames { get; }

        /// <summary>Streams that are still there keep the model's memory until they are disposed, too.</summary>
        public void Dispose() => Handle.Dispose();

        private ReadOnlyCollection<string> Names(int count, Func<ModelHandle, int, IntPtr> name)
        {
            var names = new string[count];
            for (int i = 0; i < count; ++i) names[i] = Native.Text(name(Handle, i));
            return Array.AsReadOnly(names);
        }
    }

    /// <summary>Sound in, frames out; one thread at a time. Every call throws ObjectDisposedException after Dispose()
    /// and FaceTalkException where the library refuses.</summary>
    public sealed class FaceTalkStream : IDisposable
    {
        /// <summary>Values of a row of pose.</summary>
        public const int PoseCount = 6;

        private readonly StreamHandle handle;
        private readonly int curveCount, tongueCount;

        public FaceTalkStream(FaceTalkModel model) : this(model, FaceTalkStreamOptions.Default())
        {
        }

        public FaceTalkStream(FaceTalkModel model, FaceTalkStreamOptions options)
        {
            if (model == null) throw new ArgumentNullException(nameof(model));
            if (model.Handle.IsClosed) throw new ObjectDisposedException(nameof(FaceTalkModel));
            curveCount = model.CurveNames.Count;
            tongueCount = model.TongueNames.Count;
            options.Size = Native.SizeOf<FaceTalkStreamOptions>();
            handle = new StreamHandle(model.Handle, ref options);
        }

        /// <summary>Frames that Pull can give now.</summary>
        public long Ready => Native.facetalk_stream_ready(Handle);

        /// <summary>Seconds from a frame's middle to when all of the sound that it needs was pushed.</summary>
        public double LatencySeconds => Native.facetalk_stream_latency_s(Handle);

        /// <summary>Steps of denoising that are taken.</summary>
        public int Steps => Native.facetalk_stream_steps(Handle);

        private StreamHandle Handle =>
            handle.IsClosed ? throw new ObjectDisposedException(nameof(FaceTalkStream)) : handle;

        /// <summary>Before a clip's first sound; it stays over Reset().</summary>
        public void SetStyle(FaceTalkStyle style)
        {
            style.Size = Native.SizeOf<FaceTalkStyle>();
            Native.Check(Native.facetalk_stream_set_style(Handle, ref style));
        }

        /// <summary>Takes count mono samples in -1..1, from offset on; how sound is cut makes no difference.</summary>
        public void Push(float[] samples, int offset, int count)
        {
            if (samples == null) throw new ArgumentNullException(nameof(samples));
            if (offset < 0 || count < 0 || count > samples.Length - offset)
                throw new ArgumentOutOfRangeException(nameof(count), $"{count} samples from {offset} on, of {samples.Length}");
            using (var pin = new Pin(samples))
                Native.Check(Native.facetalk_stream_push(Handle, pin.At(offset), (UIntPtr)(uint)count));
        }

        /// <summary>The sound is over: the last frames become ready.</summary>
        public void Finish() => Native.Check(Native.facetalk_stream_finish(Handle));

        /// <summary>Forgets all sound and frames; the next sound begins another clip.</summary>
        public void Reset() => Native.Check(Native.facetalk_stream_reset(Handle));

        /// <summary>Writes the oldest frames, as many whole rows as are ready and fit into all arrays that are given.
        /// A pose has to be asked for with a clip's first frames.</summary>
        /// <param name="curves">Room for rows of C weights, or null.</param>
        /// <param name="tongue">Room for rows of U weights that go with these curves, or null.</param>
        /// <param name="pose">Room for rows of pitch, yaw and roll, radians, and x, y and z, millimetres, or null; axes
        /// are facetalk.h's, right-handed.</param>
        /// <returns>The number of frames, 0 where none is ready.</returns>
        public int Pull(float[] curves, float[] tongue = null, float[] pose = null)
        {
            int rows = Math.Min(Rows(curves, curveCount, nameof(curves)),
                                Math.Min(Rows(tongue, tongueCount, nameof(tongue)), Rows(pose, PoseCount, nameof(pose))));
            using (var curvePin = new Pin(curves))
            using (var tonguePin = new Pin(tongue))
            using (var posePin = new Pin(pose))
            {
                var into = new NativeFrames
                {
                    Size = Native.SizeOf<NativeFrames>(),
                    Curves = curvePin.At(0),
                    Tongue = tonguePin.At(0),
                    Pose = posePin.At(0),
                };
                Native.Check(Native.facetalk_stream_pull_frames(Handle, ref into, rows, out long frames));
                return (int)frames;
            }
        }

        public void Dispose() => handle.Dispose();

        // What is not wanted limits nothing, and a tongue that is not there is the library's to refuse.
        private static int Rows(float[] values, int width, string name)
        {
            if (values == null || width == 0) return int.MaxValue;
            if (values.Length < width)
                throw new ArgumentException($"has room for {values.Length} values, a frame has {width}", name);
            return values.Length / width;
        }
    }
}
