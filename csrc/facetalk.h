/* facetalk: speech in, the motion of a face out. The C interface of libfacetalk (C99 and C++).
 *
 * No Python, torch or other library is needed: a model folder is read, sound is pushed, curves are pulled.
 *
 *     facetalk_model *model = NULL;
 *     facetalk_stream *stream = NULL;
 *     facetalk_stream_options options;
 *     facetalk_stream_options_default(&options);
 *     options.sample_rate = 48000;
 *     if (facetalk_model_load("models/default", &model) != FACETALK_OK ||
 *         facetalk_stream_create(model, &options, &stream) != FACETALK_OK) {
 *       fprintf(stderr, "%s\n", facetalk_last_error());
 *       exit(1);
 *     }
 *     float *curves = malloc(64 * facetalk_model_curve_count(model) * sizeof *curves);
 *     while ((count = read_sound(samples)) > 0) {             (any number of samples at a time)
 *       facetalk_stream_push(stream, samples, count);
 *       int64_t frames;
 *       while (facetalk_stream_pull(stream, curves, 64, &frames) == FACETALK_OK && frames > 0)
 *         show(curves, frames);
 *     }
 *     facetalk_stream_finish(stream);                         (and pull what is left)
 *     facetalk_stream_free(stream);
 *     facetalk_model_free(model);
 *
 * A whole program is in examples/c/.
 *
 * Rules
 *   - What can fail returns a facetalk_status; facetalk_last_error() has the reason in one line. Arguments
 *     are checked: a null where none may be is FACETALK_INVALID. On failure outputs are left as they were,
 *     but handles that were asked for are set to NULL.
 *   - Nothing throws, aborts, exits or prints. Files must not be cut short while they are being read.
 *   - A model, a rig, a bound field and a mesh may be used by many threads at a time; a stream, and a field
 *     while it is bound, by one. facetalk_last_error() is that of the calling thread.
 *   - *_free(NULL) does nothing. A model must outlive its streams; rigs, fields and meshes stand alone.
 *   - Memory comes from malloc(), or from the allocator of facetalk_options, and goes back there.
 *   - Work is done in the calling thread. None are started unless facetalk_set_threads() asked for them.
 *   - Positions are metres, +x the head's left, +y up, +z out of the face. Curves are weights in 0..1 in the
 *     order of facetalk_model_curve_name(). Frame i of a clip is centred at (i + 0.5) / fps seconds.
 */
#ifndef FACETALK_H
#define FACETALK_H

#include <stddef.h>
#include <stdint.h>

#define FACETALK_VERSION_MAJOR 0
#define FACETALK_VERSION_MINOR 1

/* Windows: the DLL's functions are in a list (facetalk.def), and a program needs no dllimport to call them. Without
 * it the same header serves a library that is linked in, and addresses of functions are constants. */
#if defined(_WIN32)
#define FACETALK_API
#elif defined(__GNUC__)
#define FACETALK_API __attribute__((visibility("default")))
#else
#define FACETALK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t facetalk_status;
enum {
  FACETALK_OK = 0,
  FACETALK_INVALID = 1,  /* an argument is null, out of range or not finite */
  FACETALK_BAD_FILE = 2, /* a file is missing, damaged, or of a kind that this version does not read */
  FACETALK_NO_MEMORY = 3,
  FACETALK_UNSUPPORTED = 4,  /* this model, or this build, cannot do it */
  FACETALK_WRONG_STATE = 5,  /* out of order: sound pushed after the end, a field that is not bound */
  FACETALK_INTERNAL = 6,     /* a defect of this library */
  FACETALK_STOPPED = 7,      /* by the caller's own callback */
  FACETALK_DEVICE_FAILED = 8 /* what a GPU's driver said; a field is of no use then, another may be */
};

typedef struct facetalk_model facetalk_model;
typedef struct facetalk_stream facetalk_stream;
typedef struct facetalk_rig facetalk_rig;
typedef struct facetalk_field facetalk_field;
typedef struct facetalk_mesh facetalk_mesh;

/* "0.1.0" */
FACETALK_API const char* facetalk_version(void);

/* Why the last call of this thread that failed did, in one line; "" when none has. Valid until the next
 * failure. */
FACETALK_API const char* facetalk_last_error(void);

/* Threads that fields, marching cubes and normals may use, 1 (the default) to 1024; for the whole process. */
FACETALK_API facetalk_status facetalk_set_threads(int32_t count);

/* --- What a program may bring along: an allocator, a log, a device --- */

enum { FACETALK_LOG_ERROR = 0, FACETALK_LOG_WARNING = 1, FACETALK_LOG_INFO = 2 };
enum { FACETALK_DEVICE_CPU = 0, FACETALK_DEVICE_CUDA = 1 };

/* One line without a newline, valid during the call. It comes in a thread that calls the library, and must
 * neither throw nor use the handle that the call is about. */
typedef void (*facetalk_log_callback)(void* user, int32_t level, const char* message);

typedef struct {
  size_t struct_size; /* sizeof(facetalk_options); fields that are not inside have their defaults */
  /* Memory, aligned for any type, as that of malloc() and free(); NULL from allocate: there is none left, and
   * the call returns FACETALK_NO_MEMORY. Both or neither. A handle and all that belongs to it, what is made of
   * it (streams and rigs of a model, meshes of a field), and all work on them take their memory here; it has to be there
   * until the last of them is freed. Called from any thread that uses them, and from helpers of
   * facetalk_set_threads(). Not from here: files that are mapped while they are read, threads, and what the
   * C++ runtime takes to carry an error to its status. */
  void* (*allocate)(void* user, size_t size);
  void (*release)(void* user, void* memory);
  void* memory_user;
  facetalk_log_callback log; /* NULL: none. Every error, warnings, and what was loaded. */
  void* log_user;
  /* Where fields compute (facetalk_field_load_with). FACETALK_UNSUPPORTED for FACETALK_DEVICE_CUDA where the build
   * has no CUDA code or the machine no GPU that it runs on, and for models and volumes, which are the CPU's. */
  int32_t device;
  int32_t device_index; /* which of the machine's GPUs, from 0; the CPU does not look at it */
} facetalk_options;

/* malloc() and free(), no log, the CPU, GPU 0; struct_size is set too. */
FACETALK_API void facetalk_options_default(facetalk_options* options);

/* --- Models --- */

/* Reads a model folder (config.json, audio/, motion/, and tongue/ where it has one, whose mouth is that of head/).
 * The files are not needed afterwards, but for head/, which is read by facetalk_rig_create. */
FACETALK_API facetalk_status facetalk_model_load(const char* folder, facetalk_model** model);

/* The same with options, NULL for the defaults; streams and rigs of the model keep to them. */
FACETALK_API facetalk_status facetalk_model_load_with(const char* folder, const facetalk_options* options,
                                                      facetalk_model** model);
FACETALK_API void facetalk_model_free(facetalk_model* model);

/* Lets Whisper hear for the model's streams and features from now on, by the adapter in its folder whisper/: it hears
 * strangers better than the model's own encoder, and takes longer. Live sound it hears with a look-ahead of up to 1 s, each
 * frame from 2 s of sound. Brows, lids and gaze come from what the model's own encoder hears as before. Mouths have a
 * weight of guidance of the adapter's, where the options ask for none.
 * listener: a file with the weights of Whisper's encoder, as `facetalk assemble --whisper --listener` writes it; NULL:
 * whisper/listener.safetensors in the model's folder. Before the model's first stream and features: after them, and a second
 * time, it is FACETALK_WRONG_STATE. */
FACETALK_API facetalk_status facetalk_model_use_whisper(facetalk_model* model, const char* listener);

/* Motion frames a second; 0 for NULL. */
FACETALK_API double facetalk_model_fps(const facetalk_model* model);

/* Number of curves C of a frame; 0 for NULL. */
FACETALK_API int32_t facetalk_model_curve_count(const facetalk_model* model);

/* Name of a curve ("jawOpen", "mouthSmile_L"), owned by the model; NULL where there is none. The built-in
 * model's are Apple ARKit's, but sides end in _L and _R instead of Left and Right (the head's own, as ARKit's
 * are), and "browInnerUp_L" and "cheekPuff_L" have their _R: ARKit's one weight is the mean of the two. */
FACETALK_API const char* facetalk_model_curve_name(const facetalk_model* model, int32_t index);

/* --- The tongue: beside the curves, weights in 0..1 of how its tip goes up to the ridge behind the upper teeth,
 * forward between the teeth, and out --- */

/* Number of tongue weights U of a frame, 3; 0 for NULL, and where a model has no tongue that moves: no tongue/, or no
 * head/ whose mesh has one. */
FACETALK_API int32_t facetalk_model_tongue_count(const facetalk_model* model);

/* Name of a tongue weight ("tongueUp", "tongueForward", "tongueOut"), never freed; NULL where there is none. */
FACETALK_API const char* facetalk_model_tongue_name(const facetalk_model* model, int32_t index);

/* For programs that change curves before they show them: the tongue weights (frames, U) that take the tip to where it
 * is heard to be, by contacts (frames, 2) of facetalk_frames, whatever the jaw of curves (frames, C) does.
 * FACETALK_UNSUPPORTED for a model without a tongue. */
FACETALK_API facetalk_status facetalk_model_tongue_weights(const facetalk_model* model, const float* contacts,
                                                           const float* curves, int64_t frames,
                                                           float* tongue);

/* --- Streams: sound in, curves out --- */

typedef struct {
  size_t struct_size;  /* sizeof(facetalk_stream_options); fields that are not inside have their defaults */
  int32_t sample_rate; /* of the sound that will be pushed, Hz, 1000 to 768000; resampled to 16000 */
  /* Steps of denoising; 0: the model's own. 1, 2, 4 and 8 are taken by a few-step student if there is one. */
  int32_t steps;
  /* Seconds after a frame's middle that are heard before it is given, 0 to 60. INFINITY: the whole recording,
   * as Python's generate() does by default; then nothing comes before finish(), and memory grows with the
   * sound, which otherwise is constant. */
  double look_ahead_s;
  double guidance; /* weight of classifier-free guidance, 0 to 20, 1: none; exactly -1: the model's own */
  uint64_t seed;   /* of the noise; equal seeds, sound and options give equal curves */
} facetalk_stream_options;

/* 16000, the model's steps, 0.2, the model's guidance, 0; struct_size is set too. */
FACETALK_API void facetalk_stream_options_default(facetalk_stream_options* options);

/* options: NULL for the defaults. */
FACETALK_API facetalk_status facetalk_stream_create(const facetalk_model* model,
                                                    const facetalk_stream_options* options,
                                                    facetalk_stream** stream);

/* Sliders of a stream, on named curves after these were sampled; but for jaw and lips, what parts and closes the lips is left
 * alone. None changes anything at its default: 1, 0, 1, 1, 0, 1, 1, 1. */
typedef struct {
  size_t struct_size;     /* sizeof(facetalk_style); fields that are not inside have their defaults */
  double intensity;       /* factor of brows, wide and narrow eyes, cheeks, smiles and frowns, 0 to 2 */
  double smile;           /* corners of the mouth up, and cheeks with them, to 1, or down, to -1 */
  double brow_activity;   /* factor of all that the brows do, 0 to 3 */
  double blink_rate;      /* factor of the number of blinks, 0 to 3 */
  double gaze_steadiness; /* 0: eyes wander as they do, to 1: they look straight ahead */
  double head_motion;     /* factor of the head's motion (pose of facetalk_frames), 0, it keeps still, to 2 */
  double jaw;             /* factor of how far the jaw opens, 0 to 2; what is closed stays closed */
  double lips;            /* factor of how far lips are rounded, spread and parted, 0 to 2 */
} facetalk_style;

/* Sliders that change nothing, in the first struct_size bytes, sizeof(facetalk_style); struct_size is set too. */
FACETALK_API void facetalk_style_default(facetalk_style* style, size_t struct_size);

/* Before the clip's first sound, else FACETALK_WRONG_STATE; it holds for the clips after a reset, too. NULL: sliders that
 * change nothing. FACETALK_UNSUPPORTED for one that does where the model has no curve for it to work on; the stream stays
 * as it was then. */
FACETALK_API facetalk_status facetalk_stream_set_style(facetalk_stream* stream, const facetalk_style* style);

/* Takes mono samples in -1..1, any number of them, none too. The curves do not depend on how the sound is
 * cut. FACETALK_INVALID for samples that are not finite or beyond 1e30, of which none is taken. */
FACETALK_API facetalk_status facetalk_stream_push(facetalk_stream* stream, const float* samples,
                                                  size_t count);

/* Called now and then while finish() works on a whole recording: the frames that are ready and how many
 * there will be. Another value than 0 stops it; finish() then returns FACETALK_STOPPED, and the stream has
 * to be reset. From here the stream may be asked, but not changed: pushes, pulls and resets are
 * FACETALK_WRONG_STATE, and it must not be freed. */
typedef int32_t (*facetalk_progress)(void* user, int64_t done, int64_t frames);
FACETALK_API facetalk_status facetalk_stream_on_progress(facetalk_stream* stream, facetalk_progress progress,
                                                         void* user);

/* Steps of denoising and weight of guidance that the stream takes; 0 for NULL. */
FACETALK_API int32_t facetalk_stream_steps(const facetalk_stream* stream);
FACETALK_API double facetalk_stream_guidance(const facetalk_stream* stream);

/* The sound is over: the last frames become ready. A second call does nothing. */
FACETALK_API facetalk_status facetalk_stream_finish(facetalk_stream* stream);

/* Frames that pull can give now; 0 for NULL. */
FACETALK_API int64_t facetalk_stream_ready(const facetalk_stream* stream);

/* Writes up to max_frames frames of C curves each, oldest first; *frames says how many. */
FACETALK_API facetalk_status facetalk_stream_pull(facetalk_stream* stream, float* curves, int64_t max_frames,
                                                  int64_t* frames);

/* Where frames go: room for max_frames rows each, or NULL for what is not wanted. */
typedef struct {
  size_t struct_size; /* sizeof(facetalk_frames); fields that are not inside are NULL */
  float* curves;      /* C a frame */
  float* tongue;      /* U a frame: the weights of the tongue that go with these curves */
  /* 2 a frame, in 0..1: how nearly the tip of the tongue touches the ridge behind the upper teeth, as for t, d, n and l,
   * and the edges of the teeth, as for th. */
  float* contacts;
  /* 6 a frame, where the head goes with the voice: pitch, yaw and roll in radians, then x, y and z in millimetres. Angles
   * are right-handed turns about +x (the head's left), +y (up) and +z (out of the face): a positive pitch looks down, a
   * positive yaw to the head's left, a positive roll tilts it to its right shoulder. The head rolls first, then nods,
   * then turns, about the point (0, -0.07, -0.045) m in its neck, and then moves. Curves, and the positions and landmarks
   * of rigs, are those of a head that keeps still. Zeros where head_motion of the stream's style is 0. */
  float* pose;
} facetalk_frames;

/* facetalk_stream_pull with the tongue and the pose of the same frames. Either may follow the other; a frame is given once.
 * NULL for all four is FACETALK_INVALID unless max_frames is 0, and tongue or contacts of a model without a tongue
 * FACETALK_UNSUPPORTED; no frame is lost then.
 * A pose takes the whole of the sound before it, which is listened to for those alone who ask with their first frames: of a
 * stream that has given frames without their pose it is FACETALK_WRONG_STATE until a reset. Later calls may leave it out.
 * Until there are frames that were pulled the stream keeps its sound for this, 64 kB a second, unless head_motion is 0: a
 * live one a minute of it, and then follows the head until frames are pulled without a pose; that of a whole recording,
 * which has frames at its end alone, all of it. */
FACETALK_API facetalk_status facetalk_stream_pull_frames(facetalk_stream* stream, const facetalk_frames* into,
                                                         int64_t max_frames, int64_t* frames);

/* Forgets all sound and frames; the next sound is the start of another clip. */
FACETALK_API facetalk_status facetalk_stream_reset(facetalk_stream* stream);

/* Seconds from a frame's middle to when all of the sound that it needs was pushed: the look-ahead, what
 * the denoiser's window adds, and the resampler's filter. */
FACETALK_API double facetalk_stream_latency_s(const facetalk_stream* stream);
FACETALK_API void facetalk_stream_free(facetalk_stream* stream);

/* --- The stages of a stream, for those who look inside --- */

/* Values of an audio feature A; 0 for NULL. */
FACETALK_API int32_t facetalk_model_feature_count(const facetalk_model* model);

/* Audio features (frames, A) of sound of 16000 Hz; look_ahead_s as that of a stream. *frames: in, the rows
 * that there is room for; out, the rows there are. With too little room, or features NULL,
 * FACETALK_INVALID, and *frames is set. */
FACETALK_API facetalk_status facetalk_model_features(const facetalk_model* model, const float* samples,
                                                     size_t count, double look_ahead_s, float* features,
                                                     int64_t* frames);

/* Standard normal noise (stop - start, channels) of frames at a sampling step, which belongs to (seed,
 * step, frame). */
FACETALK_API facetalk_status facetalk_frame_noise(uint64_t seed, uint32_t step, int64_t start, int64_t stop,
                                                  int32_t channels, float* noise);

/* --- Rigs: curves to vertices --- */

/* identity: the code of a head, NULL and 0 for the model's own head. The mesh of another is that of the
 * model's own, carried over: the same faces, every vertex on the surface of that head, where it lies there
 * by approximation. Takes a few seconds. */
FACETALK_API facetalk_status facetalk_rig_create(const facetalk_model* model, const float* identity,
                                                 int32_t identity_count, facetalk_rig** rig);
FACETALK_API int64_t facetalk_rig_vertex_count(const facetalk_rig* rig);
FACETALK_API int64_t facetalk_rig_face_count(const facetalk_rig* rig);

/* (faces, 3) vertex numbers, counter-clockwise seen from outside, owned by the rig. */
FACETALK_API const int32_t* facetalk_rig_faces(const facetalk_rig* rig);

/* curves: C weights. positions, normals: (vertices, 3); normals may be NULL. */
FACETALK_API facetalk_status facetalk_rig_pose(const facetalk_rig* rig, const float* curves, float* positions,
                                               float* normals);

/* Number of tongue weights that the rig takes: 3, or 0 of a head without a tongue that moves, and for NULL. It is that
 * of the model where the model has a tongue. */
FACETALK_API int32_t facetalk_rig_tongue_count(const facetalk_rig* rig);

/* The same with the tongue's weights; NULL: it rides on the jaw, as it does with facetalk_rig_pose. FACETALK_UNSUPPORTED
 * for weights where the head has no tongue that moves. */
FACETALK_API facetalk_status facetalk_rig_pose_with_tongue(const facetalk_rig* rig, const float* curves,
                                                           const float* tongue, float* positions,
                                                           float* normals);
FACETALK_API void facetalk_rig_free(facetalk_rig* rig);

/* --- Surfaces --- */

/* The isosurface of (nx, ny, nz) samples, z fastest, each size at least 2; vertices in index coordinates,
 * faces counter-clockwise seen from the side above the level. */
FACETALK_API facetalk_status facetalk_marching_cubes(const float* volume, int64_t nx, int64_t ny, int64_t nz,
                                                     float level, facetalk_mesh** mesh);
FACETALK_API facetalk_status facetalk_marching_cubes_with(const float* volume, int64_t nx, int64_t ny,
                                                          int64_t nz, float level,
                                                          const facetalk_options* options,
                                                          facetalk_mesh** mesh);

/* Reads a neural parametric head (NPHM) as facetalk writes it: config.json, identity.safetensors, ...
 *
 * With options that ask for a GPU all that follows is computed there, on a stream of the field's own. Its memory on
 * the GPU grows to what calls need and stays until the field is freed: a call like the last one takes none. Calls
 * from several threads wait for each other; fields do not. What a call gives is in the CPU's memory when it
 * returns. The program's current device and its own streams are left as they are. */
FACETALK_API facetalk_status facetalk_field_load(const char* checkpoint_folder, facetalk_field** field);
FACETALK_API facetalk_status facetalk_field_load_with(const char* checkpoint_folder,
                                                      const facetalk_options* options,
                                                      facetalk_field** field);

/* Values of an identity's code and of an expression's, which is 0 for a head without a deformation; 0 for NULL. */
FACETALK_API int32_t facetalk_field_identity_count(const facetalk_field* field);
FACETALK_API int32_t facetalk_field_expression_count(const facetalk_field* field);

/* How networks round between their layers on a GPU, from the next facetalk_field_bind on. 32 bit, which is what
 * happens if nobody asks, gives the CPU's surfaces but for the order of sums, and for pieces that a search by slopes
 * up to 1.5 passes over. The 16-bit ones take tensor cores; their rounding, of which bfloat16 has eight times as
 * much, moves surfaces. The CPU computes in 32 bit alone. */
enum { FACETALK_FLOAT32 = 0, FACETALK_FLOAT16 = 1, FACETALK_BFLOAT16 = 2 };
FACETALK_API facetalk_status facetalk_field_set_precision(facetalk_field* field, int32_t precision);

/* identity: its code; NULL and 0 for zeros. */
FACETALK_API facetalk_status facetalk_field_bind(facetalk_field* field, const float* identity,
                                                 int32_t identity_count);

/* The surface of an expression code (NULL and 0: of the canonical shape) on a grid of resolution^3 samples
 * over the box, both ends of which are samples. The box is in head units, a quarter of a metre each; the mesh
 * is in metres. It is that of the dense grid as far as bounds on the field's slope hold, which are sampled.
 * tolerance_mm, 0 to 10, is what further short cuts may cost: above 0, the identity is baked onto a lattice once
 * that pays (after a few posed surfaces in a box, one call then takes seconds longer), and the deformation
 * is interpolated where it is smooth. They do not apply to heads with hyper-coordinates, nor to forward ones, nor
 * on a GPU, where every surface is found as with 0.
 * A deformation that goes backward (config.json: direction) gives the surface of the posed field; of one that
 * goes forward, the canonical surface is found once and its vertices are moved, so all expressions have the
 * same faces. */
FACETALK_API facetalk_status facetalk_field_extract(const facetalk_field* field, const float* expression,
                                                    int32_t expression_count, int32_t resolution,
                                                    const float bounds[6], float tolerance_mm,
                                                    facetalk_mesh** mesh);

/* Signed distances (count) in metres, negative inside, at points (count, 3) in metres, each up to 1e6: to the head of
 * an expression code, or for NULL and 0 to the canonical shape. FACETALK_UNSUPPORTED for a code where the
 * deformation goes forward. */
FACETALK_API facetalk_status facetalk_field_query(const facetalk_field* field, const float* expression,
                                                  int32_t expression_count, const float* points,
                                                  int64_t count, float* distances);
FACETALK_API void facetalk_field_free(facetalk_field* field);

FACETALK_API int64_t facetalk_mesh_vertex_count(const facetalk_mesh* mesh);
FACETALK_API int64_t facetalk_mesh_face_count(const facetalk_mesh* mesh);
FACETALK_API const float* facetalk_mesh_vertices(const facetalk_mesh* mesh); /* (vertices, 3) */
FACETALK_API const int32_t* facetalk_mesh_faces(const facetalk_mesh* mesh);  /* (faces, 3) */
FACETALK_API void facetalk_mesh_free(facetalk_mesh* mesh);

#ifdef __cplusplus
}
#endif
#endif
