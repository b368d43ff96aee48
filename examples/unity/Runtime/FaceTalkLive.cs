// A face in time with the sound that goes through Hear(). Three threads meet here: the audio thread calls Hear(), the thread
// of Start() (or whoever calls Work()) turns sound into frames, the main thread calls Show() once for each picture.
//
// In time: a frame is known LatencySeconds of the stream after its sound, so the sound is held back by Delay, which is that,
// a frame and what threads take, and the face shows what is heard. FaceTalkSound.cs holds it back.
using System;
using System.Threading;

namespace FaceTalk
{
    public sealed class FaceTalkLive : IDisposable
    {
        // Seconds in which about two thirds of a jump are made good: between rest and speech, and where a slider was moved.
        private const double Settle = 0.08;

        // Moved sliders begin a new clip, so one that is being dragged is followed at this pace only, in seconds.
        private const double StylePace = 0.5;

        private readonly FaceTalkStream stream;
        private readonly FaceTalkSound sound;
        private readonly double fps, rate;
        private readonly int width;

        // Of the thread that works: where it is in the sound, and the clip that it is in.
        private readonly float[] block = new float[2048], curves, tongue, pose;
        private long position, done, clipStart, clipFrames;
        private int clip;
        private bool talking;
        private double heardAt, styledAt = double.NegativeInfinity;

        // Under the gate: the last frames, rows of weights and pose, and which clips have no more.
        private readonly object gate = new object();
        private readonly float[][] rows;
        private readonly double[] times;
        private readonly int[] clips;
        private long count;
        private int over;
        private FaceTalkStyle askedStyle;
        private volatile bool isStyleAsked;

        // Of the main thread: what is shown, and what is left of the jump that led there.
        private readonly float[] target, shown, left;
        private int shownClip, pastClip;

        private Thread thread;
        private volatile bool running;
        private volatile Exception error;
        private string warning;

        /// <param name="options">SampleRate is that of the sound; LookAhead has to have an end.</param>
        /// <param name="slack">Seconds that threads and the mixer's blocks may take: a block, and some 0.04.</param>
        /// <param name="delaysSound">Whether Hear() delays the sound; else somebody else has to, by Delay.</param>
        public FaceTalkLive(FaceTalkModel model, FaceTalkStreamOptions options, double slack, bool delaysSound)
        {
            if (double.IsInfinity(options.LookAhead))
                throw new ArgumentException("a face in time with its sound cannot wait for the whole of it", nameof(options));
            if (!(slack >= 0 && slack <= 10)) throw new ArgumentOutOfRangeException(nameof(slack), "0 to 10 seconds");
            stream = new FaceTalkStream(model, options);
            fps = model.Fps;
            rate = options.SampleRate;
            int samples = (int)Math.Ceiling((stream.LatencySeconds + 1 / fps + slack) * rate);
            Delay = samples / rate;
            sound = new FaceTalkSound(options.SampleRate, samples, delaysSound);
            Weights = new float[model.CurveNames.Count + model.TongueNames.Count];
            width = Weights.Length + FaceTalkStream.PoseCount;
            curves = new float[16 * model.CurveNames.Count];
            tongue = model.TongueNames.Count > 0 ? new float[16 * model.TongueNames.Count] : null;
            pose = new float[16 * FaceTalkStream.PoseCount];
            int kept = 64 + (int)(2 * Delay * fps);
            rows = new float[kept][];
            for (int i = 0; i < kept; ++i) rows[i] = new float[width];
            times = new double[kept];
            clips = new int[kept];
            target = new float[width];
            shown = new float[width];
            left = new float[width];
        }

        /// <summary>Seconds by which the face is behind what Hear() is given.</summary>
        public double Delay { get; }

        /// <summary>Seconds from Hear() to loudspeakers, beside Delay.</summary>
        public double OutputLatency { get; set; }

        /// <summary>What Show() shows: the model's curves, then its tongue's weights, in 0..1.</summary>
        public float[] Weights { get; }

        /// <summary>What Show() shows: pitch, yaw, roll in radians, x, y, z in millimetres.</summary>
        public float[] Pose { get; } = new float[FaceTalkStream.PoseCount];

        /// <summary>Where in the sound the face is. The first block comes at Delay, after as much silence; NaN before.</summary>
        public double Seconds { get; private set; } = double.NaN;

        /// <summary>Seconds of sound that were heard and have not been worked on.</summary>
        public double Pending => (sound.Heard - Volatile.Read(ref done)) / rate;

        /// <summary>How many times work was so far behind that sound was lost.</summary>
        public int Overruns { get; private set; }

        /// <summary>What ended the thread of Start(), or null.</summary>
        public Exception Error => error;

        /// <summary>What was refused since this was asked last, or null.</summary>
        public string TakeWarning() => Interlocked.Exchange(ref warning, null);

        /// <summary>Works in a thread of its own until Dispose().</summary>
        public void Start()
        {
            if (thread != null) return;
            running = true;
            thread = new Thread(Run) { IsBackground = true, Name = "facetalk" };
            thread.Start();
        }

        /// <summary>On the audio thread: see FaceTalkSound.Hear.</summary>
        public void Hear(float[] data, int channels) => sound.Hear(data, channels);

        /// <summary>Sliders from the next clip on; one that goes on is ended for them, and another begun.</summary>
        public void SetStyle(FaceTalkStyle style)
        {
            lock (gate)
            {
                askedStyle = style;
                isStyleAsked = true;
            }
        }

        /// <summary>Makes frames of all that was heard. For programs without threads; else Start().</summary>
        public void Work()
        {
            while (Step())
            {
            }
        }

        /// <summary>Brings Weights and Pose to what is heard now.</summary>
        /// <param name="step">Seconds since the last call.</param>
        public void Show(double step)
        {
            double started = sound.Started;
            if (!double.IsNaN(started))
            {
                // Blocks come in bursts; the picture's own clock is even, and is only led by theirs.
                double at = FaceTalkSound.Clock() - started - Delay - OutputLatency, led = Seconds + step;
                Seconds = Math.Abs(at - led) <= 0.1 ? led + (at - led) * Math.Min(1, 4 * step) : at;
            }
            int found = Find(Seconds);
            if (found != shownClip)
            {
                for (int i = 0; i < width; ++i) left[i] = shown[i] - target[i];
                pastClip = shownClip;
                shownClip = found;
            }
            float keep = (float)Math.Exp(-step / Settle);
            for (int i = 0; i < width; ++i)
            {
                left[i] *= keep;
                shown[i] = target[i] + left[i];
            }
            for (int i = 0; i < Weights.Length; ++i) Weights[i] = Math.Max(0f, Math.Min(1f, shown[i]));
            Array.Copy(shown, Weights.Length, Pose, 0, Pose.Length);
        }

        public void Dispose()
        {
            running = false;
            thread?.Join();
            stream.Dispose();
        }

        private void Run()
        {
            try
            {
                while (running)
                {
                    Work();
                    Thread.Sleep(4);
                }
            }
            catch (Exception failed)
            {
                error = failed;
            }
        }

        private bool Step()
        {
            double now = FaceTalkSound.Clock();
            if (isStyleAsked && !(talking && now - styledAt < StylePace)) TakeStyle(now);
            int got = sound.Read(ref position, block, out bool lost);
            if (lost)
            {
                ++Overruns;
                EndClip(false);
            }
            else if (got > 0)
            {
                heardAt = now;
                if (!talking) BeginClip(position - got);
                stream.Push(block, 0, got);
                Collect();
            }
            else if (talking && now - heardAt > FaceTalkSound.Gap)
            {
                EndClip(true);
            }
            Volatile.Write(ref done, position);
            return got > 0 || lost;
        }

        private void TakeStyle(double now)
        {
            FaceTalkStyle style;
            lock (gate)
            {
                style = askedStyle;
                isStyleAsked = false;
            }
            if (talking) EndClip(true);
            styledAt = now;
            try
            {
                stream.SetStyle(style);
            }
            catch (FaceTalkException refused) when (refused.Status == FaceTalkStatus.Invalid
                                                    || refused.Status == FaceTalkStatus.Unsupported)
            {
                warning = refused.Message; // the stream is as it was
            }
        }

        private void BeginClip(long start)
        {
            talking = true;
            clipStart = start;
            clipFrames = 0;
            ++clip;
        }

        // `whole`: with the frames that wait for sound which does not come.
        private void EndClip(bool whole)
        {
            if (whole)
            {
                stream.Finish();
                Collect();
            }
            stream.Reset();
            talking = false;
            lock (gate) over = clip;
        }

        private void Collect()
        {
            int got;
            while ((got = stream.Pull(curves, tongue, pose)) > 0)
            {
                int curveCount = curves.Length / 16, tongueCount = Weights.Length - curveCount;
                lock (gate)
                {
                    for (int frame = 0; frame < got; ++frame, ++count, ++clipFrames)
                    {
                        var slot = (int)(count % rows.Length);
                        float[] row = rows[slot];
                        Array.Copy(curves, frame * curveCount, row, 0, curveCount);
                        if (tongue != null) Array.Copy(tongue, frame * tongueCount, row, curveCount, tongueCount);
                        Array.Copy(pose, frame * Pose.Length, row, Weights.Length, Pose.Length);
                        times[slot] = clipStart / rate + (clipFrames + 0.5) / fps;
                        clips[slot] = clip;
                    }
                }
            }
        }

        // Writes the frame of a moment to `target`; says of which clip it is, 0 for a face at rest.
        private int Find(double at)
        {
            lock (gate)
            {
                long first = Math.Max(0, count - rows.Length), now = count - 1;
                while (now >= first && times[now % rows.Length] > at) --now;
                if (now >= first)
                {
                    int a = (int)(now % rows.Length), b = (int)((now + 1) % rows.Length);
                    bool isNewest = now == count - 1, isLast = isNewest ? clips[a] <= over : clips[a] != clips[b];
                    // Sound that comes after a gap begins where that of the clip before ended, which nobody sees again.
                    if (clips[a] > pastClip && (!isLast || at - times[a] <= 1 / fps))
                    {
                        // The newest frame stays until there is another, the last of a clip for its own time.
                        float share = isNewest || isLast ? 0f : (float)((at - times[a]) / (times[b] - times[a]));
                        for (int i = 0; i < width; ++i) target[i] = rows[a][i] + share * (rows[b][i] - rows[a][i]);
                        return clips[a];
                    }
                }
                Array.Clear(target, 0, width);
                return 0;
            }
        }
    }
}
