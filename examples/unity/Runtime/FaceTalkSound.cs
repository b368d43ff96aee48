// Sound on its way through an engine's mixer: written down for whoever makes frames of it, and delayed until they are made.
//
// Hear() is for the audio thread: it takes no lock, waits for nobody and allocates nothing but, once, the delay line. The
// others read behind it; one that was overtaken by the ring is told so and goes on where the sound is now.
using System;
using System.Diagnostics;
using System.Threading;

namespace FaceTalk
{
    internal sealed class FaceTalkSound
    {
        /// <summary>Seconds without a block after which what was said is over.</summary>
        public const double Gap = 0.25;

        /// <summary>Seconds, of any origin; tests have one of their own.</summary>
        internal static Func<double> Clock = () => Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency;

        private readonly int rate, delay;
        private readonly bool delays;
        private readonly float[] ring; // mono, a power of two
        private float[] line; // interleaved: the sound of the last `delay` samples
        private int lineAt, lineChannels;
        private long heard;
        private double started = double.NaN, last = double.NegativeInfinity;

        /// <param name="rate">Of the sound, Hz.</param>
        /// <param name="delay">Samples.</param>
        /// <param name="delays">Whether Hear() gives back the sound of `delay` samples ago, or leaves it alone.</param>
        public FaceTalkSound(int rate, int delay, bool delays)
        {
            this.rate = rate;
            this.delay = delay;
            this.delays = delays;
            int size = 1 << 14;
            while (size < 4 * ((long)rate + delay)) size *= 2;
            ring = new float[size];
        }

        /// <summary>Samples that were heard, silence that was put before them included.</summary>
        public long Heard => Volatile.Read(ref heard);

        /// <summary>When, by the clock, sample 0 came or would have come; NaN before there was any.</summary>
        public double Started => Volatile.Read(ref started);

        /// <summary>Takes a block of interleaved samples, the mean of whose channels is what is heard, and puts the delayed
        /// ones in its place. After a gap, as in the beginning, the delay line's length of silence is heard first: what it
        /// held is not played any more.</summary>
        public void Hear(float[] data, int channels)
        {
            if (channels < 1) return;
            double now = Clock();
            if (!(now - last < Gap)) Hush();
            last = now;
            Volatile.Write(ref started, now - heard / (double)rate);
            int count = data.Length / channels;
            for (int i = 0; i < count; ++i)
            {
                float sum = 0f;
                for (int channel = 0; channel < channels; ++channel) sum += data[i * channels + channel];
                sum /= channels;
                // A filter that went astray, whose numbers the library would refuse.
                ring[(heard + i) & (ring.Length - 1)] = Math.Abs(sum) < 1e6f ? sum : 0f;
            }
            Volatile.Write(ref heard, heard + count);
            if (delays && delay > 0) Delay(data, channels);
        }

        /// <summary>Copies sound from a position on, which it advances, as much as there is and fits.</summary>
        /// <param name="lost">The sound there has been overwritten; the position is that of the newest sample now.</param>
        public int Read(ref long position, float[] into, out bool lost)
        {
            int count = (int)Math.Min(into.Length, Heard - position);
            lost = IsLost(position);
            if (!lost)
            {
                int at = (int)(position & (ring.Length - 1)), first = Math.Min(count, ring.Length - at);
                Array.Copy(ring, at, into, 0, first);
                Array.Copy(ring, 0, into, first, count - first);
                // It may have been overtaken meanwhile; the copy has to be over before that is asked.
                Thread.MemoryBarrier();
                lost = IsLost(position);
            }
            if (lost) count = 0;
            position = lost ? Heard : position + count;
            return count;
        }

        // A quarter of the ring is for the block that is being written, which is not counted yet.
        private bool IsLost(long position) => Heard - position > ring.Length / 4 * 3;

        private void Hush()
        {
            for (int i = 0; i < delay; ++i) ring[(heard + i) & (ring.Length - 1)] = 0f;
            Volatile.Write(ref heard, heard + delay);
            if (line != null) Array.Clear(line, 0, line.Length);
        }

        private void Delay(float[] data, int channels)
        {
            if (channels != lineChannels)
            {
                line = new float[delay * channels];
                lineChannels = channels;
                lineAt = 0;
            }
            for (int i = 0; i < data.Length; ++i)
            {
                float now = data[i];
                data[i] = line[lineAt];
                line[lineAt] = now;
                if (++lineAt == line.Length) lineAt = 0;
            }
        }
    }
}
