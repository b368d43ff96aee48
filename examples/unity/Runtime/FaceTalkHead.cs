// A head that talks with the sound of the AudioSource beside it. Blend shapes go by ARKit's names, whatever the mesh writes
// around them, and a bone turns with the voice.
//
// The sound passes through OnAudioFilterRead, which delays it by Delay, about a third of a second, until its frames are known:
// lips and sound are together then. A source that stops takes what is delayed along: Say() plays a clip with so much silence
// behind it, sources that go on (a microphone, a stream, a loop) need nothing.
using System;
using System.Collections.Generic;
using System.IO;
using UnityEngine;

namespace FaceTalk
{
    [AddComponentMenu("FaceTalk/FaceTalk Head")]
    [RequireComponent(typeof(AudioSource))]
    public sealed class FaceTalkHead : MonoBehaviour
    {
        [Tooltip("Meshes with blend shapes of ARKit's names; none: all below this object.")]
        public SkinnedMeshRenderer[] faces;

        [Tooltip("The bone that turns with the voice: head or neck; none: the head keeps still.")]
        public Transform head;

        [Tooltip("Looks where the face looks, along its +z, with +y up; none: this object.")]
        public Transform body;

        [Tooltip("The model's folder, absolute or in StreamingAssets.")]
        public string modelFolder = "facetalk";

        [Tooltip("Whisper hears, which people are heard better by and which takes more time; the model's folder has to have "
            + "whisper/listener.safetensors.")]
        public bool whisper;

        [Tooltip("Seconds of sound after a frame that are heard first. Less answers sooner and knows less of the next sound.")]
        [Range(0f, 1f)] public float lookAhead = 0.2f;

        [Tooltip("Equal seeds and sound give equal faces.")]
        public int seed;

        [Tooltip("Holds the sound back until its frames are known. Off: somebody else does so, by Delay.")]
        public bool delaySound = true;

        [Tooltip("Seconds for threads on top of a mixer's block: more where the face lags on a busy machine.")]
        [Range(0f, 0.5f)] public float slack = 0.04f;

        [Tooltip("Seconds from the mixer to ears beyond Unity's own buffers: loudspeakers by Bluetooth, for instance.")]
        [Range(0f, 0.5f)] public float extraLatency;

        [Tooltip("Works in a thread of its own; off: in LateUpdate, for platforms without threads.")]
        public bool ownThread = true;

        [Header("Style: moved while it talks, a slider begins a new clip")]
        [Range(0f, 2f)] public float intensity = 1f;
        [Range(-1f, 1f)] public float smile;
        [Range(0f, 3f)] public float browActivity = 1f;
        [Range(0f, 3f)] public float blinkRate = 1f;
        [Range(0f, 1f)] public float gazeSteadiness;
        [Range(0f, 2f)] public float headMotion = 1f;
        [Range(0f, 2f)] public float jaw = 1f;
        [Range(0f, 2f)] public float lips = 1f;

        private struct Binding
        {
            public SkinnedMeshRenderer Face;
            public int Shape, First, Second; // a weight is the mean of the two
            public float Full; // what the mesh takes for a weight of 1: 100 by custom, but importers differ
        }

        private volatile FaceTalkLive live;
        private FaceTalkModel model;
        private bool isOwnModel;
        private Binding[] bindings = new Binding[0];
        private FaceTalkStyle style;
        private double mixerLatency;
        private AudioClip said;
        private Quaternion rest, turned; // of the bone: before its turn, and after

        /// <summary>Set it before this is enabled to have heads share one; it is then yours to dispose, after them.</summary>
        public FaceTalkModel Model
        {
            get => model;
            set
            {
                if (live != null) throw new InvalidOperationException("disable the head first");
                model = value;
                isOwnModel = false;
            }
        }

        /// <summary>Seconds by which the face, and with delaySound its sound, are late; 0 while disabled.</summary>
        public double Delay => live?.Delay ?? 0;

        /// <summary>Where the face is in the sound that passed; its first block is at Delay. NaN before there is any.</summary>
        public double Seconds => live?.Seconds ?? double.NaN;

        /// <summary>Seconds of sound that are waiting for their frames: more than slack, and the face lags.</summary>
        public double Pending => live?.Pending ?? 0;

        /// <summary>Plays a clip to its end: with silence behind it, which pushes the delayed sound out.</summary>
        public void Say(AudioClip clip)
        {
            if (clip == null) throw new ArgumentNullException(nameof(clip));
            int tail = (int)Math.Ceiling((Delay + 0.1) * clip.frequency);
            var samples = new float[(clip.samples + tail) * clip.channels];
            var sound = new float[clip.samples * clip.channels];
            if (!clip.GetData(sound, 0))
                throw new InvalidOperationException($"{clip.name}: its samples cannot be read; import it as Decompress On Load");
            Array.Copy(sound, samples, sound.Length);
            AudioClip whole = AudioClip.Create(clip.name, clip.samples + tail, clip.channels, clip.frequency, false);
            whole.SetData(samples, 0);
            var source = GetComponent<AudioSource>();
            source.clip = whole;
            if (said != null) Destroy(said);
            said = whole;
            source.Play();
        }

        private void OnEnable()
        {
            AudioSettings.OnAudioConfigurationChanged += Restart;
            try
            {
                Open();
            }
            catch (Exception failed) when (failed is FaceTalkException || failed is ArgumentException)
            {
                Debug.LogError("FaceTalk: " + failed.Message, this);
                enabled = false;
            }
        }

        private void OnDisable()
        {
            AudioSettings.OnAudioConfigurationChanged -= Restart;
            FaceTalkLive closing = live;
            live = null; // the audio thread looks here, and may hold the old one for a block more
            if (closing == null) return;
            closing.Dispose();
            foreach (Binding binding in bindings) binding.Face.SetBlendShapeWeight(binding.Shape, 0f);
            if (head != null && AreSame(head.localRotation, turned)) head.localRotation = rest;
            bindings = new Binding[0];
            CloseModel();
        }

        private void OnDestroy()
        {
            if (said != null) Destroy(said);
        }

        // After animations, whose pose of the bone is turned further.
        private void LateUpdate()
        {
            FaceTalkLive face = live;
            if (face == null) return;
            FaceTalkStyle moved = Sliders();
            if (!moved.Equals(style)) face.SetStyle(style = moved);
            try
            {
                if (!ownThread) face.Work();
            }
            catch (FaceTalkException failed)
            {
                Fail(failed);
                return;
            }
            string warning = face.TakeWarning();
            if (warning != null) Debug.LogWarning("FaceTalk: " + warning, this);
            if (face.Error != null)
            {
                Fail(face.Error);
                return;
            }
            face.OutputLatency = mixerLatency + extraLatency;
            face.Show(Time.unscaledDeltaTime);
            foreach (Binding binding in bindings)
            {
                float weight = (face.Weights[binding.First] + face.Weights[binding.Second]) / 2f;
                binding.Face.SetBlendShapeWeight(binding.Shape, binding.Full * weight);
            }
            if (head != null) Turn(face.Pose);
        }

        // On the audio thread.
        private void OnAudioFilterRead(float[] data, int channels) => live?.Hear(data, channels);

        private void Fail(Exception failed)
        {
            Debug.LogError("FaceTalk: " + failed.Message, this);
            enabled = false;
        }

        private void Restart(bool deviceWasChanged)
        {
            enabled = false;
            enabled = true;
        }

        private void Open()
        {
            FaceTalkStreamOptions options = FaceTalkStreamOptions.Default();
            style = Sliders();
            if (model == null)
            {
                model = new FaceTalkModel(Path.Combine(Application.streamingAssetsPath, modelFolder));
                isOwnModel = true;
            }
            try
            {
                if (whisper && isOwnModel) model.UseWhisper();
                AudioSettings.GetDSPBufferSize(out int length, out int buffers);
                options.SampleRate = AudioSettings.outputSampleRate;
                options.LookAhead = lookAhead;
                options.Seed = (uint)seed;
                double block = length / (double)options.SampleRate;
                // An estimate: how far a ring of blocks is ahead of what is heard, on the mean.
                mixerLatency = Math.Max(0.0, buffers - 1.5) * block;
                var opened = new FaceTalkLive(model, options, block + slack, delaySound);
                opened.SetStyle(style);
                Bind();
                if (ownThread) opened.Start();
                live = opened;
            }
            catch
            {
                CloseModel();
                throw;
            }
        }

        private void CloseModel()
        {
            if (!isOwnModel) return;
            model.Dispose();
            model = null;
            isOwnModel = false;
        }

        private void Bind()
        {
            var names = new List<string>(model.CurveNames);
            names.AddRange(model.TongueNames);
            var found = new List<Binding>();
            bool isGiven = faces != null && faces.Length > 0;
            foreach (SkinnedMeshRenderer face in isGiven ? faces : GetComponentsInChildren<SkinnedMeshRenderer>())
            {
                Mesh mesh = face != null ? face.sharedMesh : null;
                for (int shape = 0; mesh != null && shape < mesh.blendShapeCount; ++shape)
                {
                    if (!FaceTalkShapes.Find(names, mesh.GetBlendShapeName(shape), out int first, out int second)) continue;
                    float full = mesh.GetBlendShapeFrameWeight(shape, mesh.GetBlendShapeFrameCount(shape) - 1);
                    found.Add(new Binding { Face = face, Shape = shape, First = first, Second = second, Full = full });
                }
            }
            bindings = found.ToArray();
            if (bindings.Length == 0)
                Debug.LogWarning("FaceTalk: no mesh has a blend shape of ARKit's names, such as jawOpen; set Faces", this);
        }

        private FaceTalkStyle Sliders()
        {
            FaceTalkStyle asked = FaceTalkStyle.Default();
            asked.Intensity = intensity;
            asked.Smile = smile;
            asked.BrowActivity = browActivity;
            asked.BlinkRate = blinkRate;
            asked.GazeSteadiness = gazeSteadiness;
            asked.HeadMotion = headMotion;
            asked.Jaw = jaw;
            asked.Lips = lips;
            return asked;
        }

        private void Turn(float[] pose)
        {
            // What is not as it was left comes from an animation, and is what the voice turns from.
            if (!AreSame(head.localRotation, turned)) rest = head.localRotation;
            Quaternion space = (body != null ? body : transform).rotation;
            Quaternion parent = head.parent != null ? head.parent.rotation : Quaternion.identity;
            Quaternion voice = space * ToUnity(pose) * Quaternion.Inverse(space);
            head.localRotation = Quaternion.Inverse(parent) * voice * parent * rest;
            turned = head.localRotation;
        }

        /// <summary>Y(yaw) X(pitch) Z(roll), right-handed with +x to the head's left, in Unity's axes, left-handed with +x to
        /// its right: turns about y and z go the other way round.</summary>
        private static Quaternion ToUnity(float[] pose)
        {
            float sx = Mathf.Sin(pose[0] / 2f), cx = Mathf.Cos(pose[0] / 2f);
            float sy = Mathf.Sin(pose[1] / 2f), cy = Mathf.Cos(pose[1] / 2f);
            float sz = Mathf.Sin(pose[2] / 2f), cz = Mathf.Cos(pose[2] / 2f);
            return new Quaternion(cy * sx * cz + sy * cx * sz, -(sy * cx * cz - cy * sx * sz),
                                  -(cy * cx * sz - sy * sx * cz), cy * cx * cz + sy * sx * sz);
        }

        // To the bit, where Unity's == takes neighbours for the same.
        private static bool AreSame(Quaternion a, Quaternion b) => a.x == b.x && a.y == b.y && a.z == b.z && a.w == b.w;
    }
}
