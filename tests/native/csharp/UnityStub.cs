// As much of UnityEngine as examples/unity asks for, so that it compiles and runs where there is no Unity. What is computed
// (quaternions, rotations of children) is Unity's; what Unity does by itself (time, sound, messages) a test does.
using System;
using System.Collections.Generic;
using System.Reflection;

namespace UnityEngine
{
    [AttributeUsage(AttributeTargets.Class)]
    public sealed class AddComponentMenu : Attribute
    {
        public AddComponentMenu(string name) { }
    }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class RequireComponent : Attribute
    {
        public RequireComponent(Type type) { }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string text) { }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class HeaderAttribute : Attribute
    {
        public HeaderAttribute(string text) { }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class RangeAttribute : Attribute
    {
        public RangeAttribute(float low, float high) { }
    }

    public static class Mathf
    {
        public static float Sin(float angle) => (float)Math.Sin(angle);
        public static float Cos(float angle) => (float)Math.Cos(angle);
    }

    public static class Time
    {
        public static float unscaledDeltaTime { get; set; }
    }

    public static class Debug
    {
        public static void LogError(object message, Object about) => Console.WriteLine("error: " + message);
        public static void LogWarning(object message, Object about) => Console.WriteLine("warning: " + message);
    }

    public static class Application
    {
        public static string streamingAssetsPath { get; set; } = "";
    }

    public static class AudioSettings
    {
        public delegate void AudioConfigurationChangeHandler(bool deviceWasChanged);
        public static event AudioConfigurationChangeHandler OnAudioConfigurationChanged;
        public static int outputSampleRate { get; set; } = 48000;
        public static void GetDSPBufferSize(out int bufferLength, out int numBuffers)
        {
            bufferLength = 1024;
            numBuffers = 4;
        }
        public static void ChangeConfiguration() => OnAudioConfigurationChanged?.Invoke(true);
    }

    public struct Quaternion
    {
        public float x, y, z, w;

        public Quaternion(float x, float y, float z, float w)
        {
            this.x = x;
            this.y = y;
            this.z = z;
            this.w = w;
        }

        public static Quaternion identity => new Quaternion(0f, 0f, 0f, 1f);

        public static Quaternion Inverse(Quaternion q) => new Quaternion(-q.x, -q.y, -q.z, q.w);

        public static Quaternion operator *(Quaternion a, Quaternion b) => new Quaternion(
            a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y, a.w * b.y + a.y * b.w + a.z * b.x - a.x * b.z,
            a.w * b.z + a.z * b.w + a.x * b.y - a.y * b.x, a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z);
    }

    public class Object
    {
        public string name { get; set; } = "";
        public bool isDestroyed { get; private set; }
        public static void Destroy(Object what) => what.isDestroyed = true;
    }

    public class Component : Object
    {
        public readonly List<Component> beside = new List<Component>(), below = new List<Component>();
        public Transform transform { get; set; }
        public T GetComponent<T>() where T : Component => (T)beside.Find(other => other is T);
        public T[] GetComponentsInChildren<T>() where T : Component =>
            below.FindAll(other => other is T).ConvertAll(other => (T)other).ToArray();
    }

    public class Transform : Component
    {
        public Transform parent { get; set; }
        public Quaternion localRotation { get; set; } = Quaternion.identity;
        public Quaternion rotation => parent == null ? localRotation : parent.rotation * localRotation;
    }

    public class Behaviour : Component
    {
        private bool isEnabled;

        public bool enabled
        {
            get => isEnabled;
            set
            {
                if (value == isEnabled) return;
                isEnabled = value;
                Send(value ? "OnEnable" : "OnDisable");
            }
        }

        /// <summary>What Unity does with messages, which are private methods.</summary>
        public void Send(string message) =>
            GetType().GetMethod(message, BindingFlags.Instance | BindingFlags.NonPublic).Invoke(this, null);
    }

    public class MonoBehaviour : Behaviour
    {
    }

    public sealed class AudioClip : Object
    {
        private float[] data;
        public int samples { get; private set; }
        public int channels { get; private set; }
        public int frequency { get; private set; }
        public bool isStreamed { get; set; }

        public static AudioClip Create(string name, int lengthSamples, int channels, int frequency, bool stream) =>
            new AudioClip
            {
                name = name, samples = lengthSamples, channels = channels, frequency = frequency,
                data = new float[lengthSamples * channels],
            };

        public bool GetData(float[] into, int offset)
        {
            if (isStreamed) return false;
            Array.Copy(data, offset * channels, into, 0, into.Length);
            return true;
        }

        public bool SetData(float[] from, int offset)
        {
            Array.Copy(from, 0, data, offset * channels, from.Length);
            return true;
        }
    }

    public sealed class AudioSource : Behaviour
    {
        public AudioClip clip { get; set; }
        public bool isPlaying { get; private set; }
        public void Play() => isPlaying = true;
    }

    public sealed class Mesh : Object
    {
        private readonly string[] names;
        private readonly float full;

        public Mesh(float full, params string[] names)
        {
            this.full = full;
            this.names = names;
        }

        public int blendShapeCount => names.Length;
        public string GetBlendShapeName(int shape) => names[shape];
        public int GetBlendShapeFrameCount(int shape) => 1;
        public float GetBlendShapeFrameWeight(int shape, int frame) => full;
    }

    public sealed class SkinnedMeshRenderer : Component
    {
        private float[] weights;
        private Mesh mesh;

        public Mesh sharedMesh
        {
            get => mesh;
            set
            {
                mesh = value;
                weights = new float[value.blendShapeCount];
            }
        }

        public void SetBlendShapeWeight(int shape, float value) => weights[shape] = value;
        public float GetBlendShapeWeight(int shape) => weights[shape];
    }
}
