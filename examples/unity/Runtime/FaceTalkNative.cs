// What FaceTalkStream.cs stands on: the functions of libfacetalk, its handles, and what is said where it is not there.
using System;
using System.Runtime.InteropServices;
using System.Text;

namespace FaceTalk
{
    internal static class Native
    {
        // libfacetalk.so, facetalk.dll, libfacetalk.dylib: the prefix and the suffix are the runtime's to add.
        private const string Library = "facetalk";
        private static volatile bool found;

        /// <summary>Throws FaceTalkException unless the library is there and knows what this file asks of it.</summary>
        public static void Require()
        {
            if (found) return;
            try
            {
                string version = Text(facetalk_version());
                facetalk_style_default(out FaceTalkStyle style, SizeOf<FaceTalkStyle>());
                if (style.Size != SizeOf<FaceTalkStyle>())
                    throw new FaceTalkException(FaceTalkStatus.NoLibrary,
                        $"the facetalk library {version} is older than its C# files; take both from the same release");
            }
            catch (DllNotFoundException error)
            {
                throw new FaceTalkException(FaceTalkStatus.NoLibrary,
                    "the facetalk library was not found: copy libfacetalk.so (Windows: facetalk.dll) beside the program or, "
                    + "in Unity, to Assets/Plugins/x86_64 (docs/embedding.md of facetalk says where it is, or how it is made)",
                    error);
            }
            catch (BadImageFormatException error)
            {
                throw new FaceTalkException(FaceTalkStatus.NoLibrary,
                    "the facetalk library that was found is for another machine; take the one of this processor", error);
            }
            catch (EntryPointNotFoundException error)
            {
                throw new FaceTalkException(FaceTalkStatus.NoLibrary,
                    "the facetalk library is older than its C# files; take both from the same release", error);
            }
            found = true;
        }

        public static void Check(int status)
        {
            if (status != (int)FaceTalkStatus.Ok) throw new FaceTalkException((FaceTalkStatus)status, LastError());
        }

        // It is the calling thread's, so it has to be asked before this thread calls anything else.
        public static string LastError() => Text(facetalk_last_error());

        public static UIntPtr SizeOf<T>() => (UIntPtr)(uint)Marshal.SizeOf(typeof(T));

        /// <summary>UTF-8 that ends in a zero, which .NET Standard 2.0 does not read by itself.</summary>
        public static string Text(IntPtr utf8)
        {
            if (utf8 == IntPtr.Zero) return "";
            int length = 0;
            while (Marshal.ReadByte(utf8, length) != 0) ++length;
            var bytes = new byte[length];
            Marshal.Copy(utf8, bytes, 0, length);
            return Encoding.UTF8.GetString(bytes);
        }

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr facetalk_version();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr facetalk_last_error();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_model_load(byte[] folder, out IntPtr model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_model_use_whisper(ModelHandle model, byte[] listener);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void facetalk_model_free(IntPtr model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern double facetalk_model_fps(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_model_curve_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr facetalk_model_curve_name(ModelHandle model, int index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_model_tongue_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr facetalk_model_tongue_name(ModelHandle model, int index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void facetalk_stream_options_default(out FaceTalkStreamOptions options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_create(ModelHandle model, ref FaceTalkStreamOptions options, out IntPtr stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void facetalk_style_default(out FaceTalkStyle style, UIntPtr size);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_set_style(StreamHandle stream, ref FaceTalkStyle style);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_push(StreamHandle stream, IntPtr samples, UIntPtr count);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_finish(StreamHandle stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern long facetalk_stream_ready(StreamHandle stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_pull_frames(StreamHandle stream, ref NativeFrames into, long rows, out long frames);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_reset(StreamHandle stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern double facetalk_stream_latency_s(StreamHandle stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int facetalk_stream_steps(StreamHandle stream);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void facetalk_stream_free(IntPtr stream);
    }

    /// <summary>An array that keeps its place while the library looks at it; null is nowhere.</summary>
    internal struct Pin : IDisposable
    {
        private GCHandle handle;

        public Pin(float[] values)
        {
            handle = values == null ? default(GCHandle) : GCHandle.Alloc(values, GCHandleType.Pinned);
        }

        public IntPtr At(int index) =>
            handle.IsAllocated ? IntPtr.Add(handle.AddrOfPinnedObject(), index * sizeof(float)) : IntPtr.Zero;

        public void Dispose()
        {
            if (handle.IsAllocated) handle.Free();
        }
    }

    internal sealed class ModelHandle : SafeHandle
    {
        public ModelHandle(IntPtr made) : base(IntPtr.Zero, true) => SetHandle(made);

        public override bool IsInvalid => handle == IntPtr.Zero;

        protected override bool ReleaseHandle()
        {
            Native.facetalk_model_free(handle);
            return true;
        }
    }

    /// <summary>Holds the model's handle, which must outlive it: the finalizers of both come in any order.</summary>
    internal sealed class StreamHandle : SafeHandle
    {
        private readonly ModelHandle model;

        public StreamHandle(ModelHandle model, ref FaceTalkStreamOptions options) : base(IntPtr.Zero, true)
        {
            bool held = false, taken = false;
            try
            {
                model.DangerousAddRef(ref held);
                Native.Check(Native.facetalk_stream_create(model, ref options, out IntPtr made));
                this.model = model;
                SetHandle(made);
                taken = true;
            }
            finally
            {
                if (held && !taken) model.DangerousRelease();
            }
        }

        public override bool IsInvalid => handle == IntPtr.Zero;

        protected override bool ReleaseHandle()
        {
            Native.facetalk_stream_free(handle);
            model.DangerousRelease();
            return true;
        }
    }

    /// <summary>facetalk_frames.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct NativeFrames
    {
        public UIntPtr Size;
        public IntPtr Curves, Tongue, Contacts, Pose;
    }
}
