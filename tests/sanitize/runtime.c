/* The C library over random pieces of sound, missing inputs and small surfaces, for scripts/sanitize.sh:
 *   runtime MODEL_FOLDER CHECKPOINT_FOLDER
 * Prints "clean" when all of it went as it should. */
#include <facetalk.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WANT(condition) \
  do { \
    if (!(condition)) return fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, facetalk_last_error()), 1; \
  } while (0)

static int streams(const facetalk_model *model) {
  static const int32_t rates[] = {16000, 48000, 44100, 8000, 22051};
  float *sound = malloc(3000 * sizeof *sound), *curves = malloc(64 * 53 * sizeof *curves);
  float *tongue = malloc(64 * 3 * sizeof *tongue), *contacts = malloc(64 * 2 * sizeof *contacts);
  float *pose = malloc(64 * 6 * sizeof *pose);
  const facetalk_frames all = {sizeof all, curves, tongue, contacts, pose}, only_pose = {sizeof all, NULL, NULL, NULL, pose};
  WANT(facetalk_model_tongue_count(model) == 3 && facetalk_model_tongue_name(model, 2) != NULL);
  srand(1);
  for (size_t r = 0; r < sizeof rates / sizeof *rates; ++r) {
    facetalk_stream *stream = NULL;
    facetalk_stream_options options;
    facetalk_stream_options_default(&options);
    options.sample_rate = rates[r];
    options.steps = r % 2 ? 1 : 3; /* the student's and the full network */
    options.look_ahead_s = r == 1 ? INFINITY : 0.05 * (double)r;
    WANT(facetalk_stream_create(model, &options, &stream) == FACETALK_OK);
    facetalk_style style;
    facetalk_style_default(&style, sizeof style);
    style.smile = r % 2 ? -1.0 : 1.0;
    style.intensity = style.brow_activity = 0.5 * (double)(r % 5);
    style.blink_rate = 3.0 - (double)(r % 4);
    style.gaze_steadiness = 0.25 * (double)r;
    style.head_motion = style.jaw = 0.5 * (double)r;
    style.lips = 2.0 - style.jaw;
    WANT(facetalk_stream_set_style(stream, &style) == FACETALK_OK);
    int64_t total = 0, frames = 0, got = 0;
    for (int piece = 0; piece < 200; ++piece) {
      const size_t count = (size_t)(rand() % (piece % 7 ? 300 : 3000));
      for (size_t i = 0; i < count; ++i) sound[i] = sinf((float)(total + (int64_t)i) * 0.05f) * 0.3f;
      total += (int64_t)count;
      WANT(facetalk_stream_push(stream, sound, count) == FACETALK_OK);
      const int64_t most = rand() % 64;
      WANT((piece % 2 ? facetalk_stream_pull(stream, curves, most, &got)
                      : facetalk_stream_pull_frames(stream, &all, most, &got)) == FACETALK_OK);
      if (piece % 2 == 0) WANT(facetalk_model_tongue_weights(model, contacts, curves, got, tongue) == FACETALK_OK);
      frames += got;
    }
    sound[5] = NAN;
    WANT(facetalk_stream_push(stream, sound, 9) == FACETALK_INVALID);
    WANT(facetalk_stream_finish(stream) == FACETALK_OK && facetalk_stream_push(stream, sound, 1) == FACETALK_WRONG_STATE);
    while (facetalk_stream_pull(stream, curves, 64, &got) == FACETALK_OK && got > 0) frames += got;
    WANT(llabs(frames - llround((double)total / rates[r] * 25.0)) <= 1);
    WANT(facetalk_stream_reset(stream) == FACETALK_OK && facetalk_stream_finish(stream) == FACETALK_OK);
    WANT(facetalk_stream_reset(stream) == FACETALK_OK && facetalk_stream_push(stream, sound, 5) == FACETALK_OK);
    for (int piece = 0; piece < 5; ++piece) WANT(facetalk_stream_push(stream, sound + 6, 2900) == FACETALK_OK);
    WANT(facetalk_stream_finish(stream) == FACETALK_OK);
    WANT(facetalk_stream_pull(stream, curves, 1, &got) == FACETALK_OK && got == 1);
    WANT(facetalk_stream_pull_frames(stream, &only_pose, 9, &got) == (r == 0 ? FACETALK_OK : FACETALK_WRONG_STATE));
    WANT(facetalk_stream_set_style(stream, &style) == FACETALK_WRONG_STATE);
    WANT(facetalk_stream_reset(stream) == FACETALK_OK);
    style.head_motion = NAN;
    WANT(facetalk_stream_set_style(stream, &style) == FACETALK_INVALID && facetalk_stream_set_style(stream, NULL) == FACETALK_OK);
    facetalk_stream_free(stream);
  }
  free(pose);
  free(contacts);
  free(tongue);
  free(curves);
  free(sound);
  return 0;
}

/* Memory that ends after some blocks. */
struct few {
  long left, live;
};
static void *few_allocate(void *user, size_t size) {
  struct few *few = user;
  if (few->left-- <= 0) return NULL;
  ++few->live;
  return malloc(size);
}
static void few_release(void *user, void *memory) {
  --((struct few *)user)->live;
  free(memory);
}

static int shortages(const char *folder) {
  float sound[4000], curves[64 * 53], tongue[64 * 3], pose[64 * 6];
  const facetalk_frames all = {sizeof all, curves, tongue, NULL, pose};
  for (int i = 0; i < 4000; ++i) sound[i] = sinf((float)i * 0.05f) * 0.3f;
  for (long most = 1; most < 1000000; most += 1 + most / 6) {
    facetalk_model *model = NULL;
    facetalk_stream *stream = NULL;
    int64_t got = 0;
    struct few few = {most, 0};
    facetalk_options options;
    facetalk_options_default(&options);
    options.allocate = few_allocate;
    options.release = few_release;
    options.memory_user = &few;
    facetalk_status status = facetalk_model_load_with(folder, &options, &model);
    if (status == FACETALK_OK) status = facetalk_stream_create(model, NULL, &stream);
    if (status == FACETALK_OK) status = facetalk_stream_push(stream, sound, 4000);
    if (status == FACETALK_OK) status = facetalk_stream_finish(stream);
    if (status == FACETALK_OK) status = facetalk_stream_pull_frames(stream, &all, 64, &got);
    facetalk_stream_free(stream);
    facetalk_model_free(model);
    WANT(few.live == 0 && (status == FACETALK_OK || status == FACETALK_NO_MEMORY));
    if (status == FACETALK_OK) return 0;
  }
  WANT(!"there is never enough");
  return 0;
}

static int surfaces(const facetalk_model *model, const char *checkpoint) {
  facetalk_rig *rig = NULL;
  float curves[53] = {0}, tongue[3] = {0.5f, 1.0f, 0.25f};
  WANT(facetalk_rig_create(model, NULL, 0, &rig) == FACETALK_OK);
  float *points = malloc((size_t)facetalk_rig_vertex_count(rig) * 6 * sizeof *points);
  for (int i = 0; i < 53; ++i) curves[i] = (float)(i % 3) * 0.5f;
  WANT(facetalk_rig_pose(rig, curves, points, points + 3 * facetalk_rig_vertex_count(rig)) == FACETALK_OK);
  WANT(facetalk_rig_tongue_count(rig) == 3);
  WANT(facetalk_rig_pose_with_tongue(rig, curves, tongue, points, NULL) == FACETALK_OK);
  tongue[1] = NAN;
  WANT(facetalk_rig_pose_with_tongue(rig, curves, tongue, points, NULL) == FACETALK_INVALID);
  free(points);
  facetalk_rig_free(rig);
  facetalk_field *field = NULL;
  facetalk_mesh *mesh = NULL;
  const float box[6] = {-0.55f, -0.5f, -0.95f, 0.55f, 0.75f, 0.4f};
  float code[16] = {0.1f, -0.2f, 0.3f};
  WANT(facetalk_field_load(checkpoint, &field) == FACETALK_OK);
  WANT(facetalk_field_bind(field, NULL, 0) == FACETALK_OK);
  WANT(facetalk_field_extract(field, code, 16, 24, box, 0.0f, &mesh) == FACETALK_OK);
  WANT(facetalk_mesh_vertex_count(mesh) > 0);
  facetalk_mesh_free(mesh);
  WANT(facetalk_field_extract(field, code, 3, 24, box, 0.0f, &mesh) == FACETALK_INVALID && mesh == NULL);
  facetalk_field_free(field);
  return 0;
}

int main(int argc, char **argv) {
  facetalk_model *model = NULL;
  WANT(argc == 3 && facetalk_model_load("/nowhere", &model) == FACETALK_BAD_FILE && model == NULL);
  WANT(facetalk_model_load(argv[1], &model) == FACETALK_OK);
  if (streams(model) || shortages(argv[1]) || surfaces(model, argv[2])) return 1;
  facetalk_model_free(model);
  printf("clean\n");
  return 0;
}
