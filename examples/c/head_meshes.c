/* A neural head's surface for several expression codes, and how long each takes:
 *   cc head_meshes.c $(python -m facetalk --cflags --libs) -lm -o head_meshes
 *   ./head_meshes HEAD_FOLDER [--device cuda] [--half] [--resolution N] [--frames N] */
#define _POSIX_C_SOURCE 199309L
#include <facetalk.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void need(facetalk_status status) {
  if (status == FACETALK_OK) return;
  fprintf(stderr, "error: %s\n", facetalk_last_error());
  exit(1);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  const float box[6] = {-0.55f, -0.5f, -0.95f, 0.55f, 0.75f, 0.4f}; /* head units: a quarter of a metre each */
  facetalk_options options;
  facetalk_options_default(&options);
  int half = 0, resolution = 64, frames = 3;
  for (int i = 2; i < argc; ++i) {
    const int more = i + 1 < argc;
    if (more && strcmp(argv[i], "--device") == 0)
      options.device = strcmp(argv[++i], "cuda") == 0 ? FACETALK_DEVICE_CUDA : FACETALK_DEVICE_CPU;
    else if (more && strcmp(argv[i], "--resolution") == 0)
      resolution = atoi(argv[++i]);
    else if (more && strcmp(argv[i], "--frames") == 0)
      frames = atoi(argv[++i]);
    else if (strcmp(argv[i], "--half") == 0)
      half = 1;
    else
      argc = 0;
  }
  if (argc < 2)
    return fprintf(stderr, "usage: head_meshes HEAD_FOLDER [--device cuda|cpu] [--half] [--resolution N]"
                           " [--frames N]\n"), 2;
  facetalk_field *field;
  need(facetalk_field_load_with(argv[1], &options, &field));
  if (half) need(facetalk_field_set_precision(field, FACETALK_FLOAT16));
  need(facetalk_field_bind(field, NULL, 0)); /* the identity of a code of zeros */
  const int32_t count = facetalk_field_expression_count(field);
  float *code = calloc((size_t)count + 1, sizeof *code);
  for (int frame = -1; code != NULL && frame < frames; ++frame) {
    /* The first call takes memory and learns of the head; those after it take what a frame takes. */
    for (int32_t i = 0; i < count; ++i) code[i] = 0.3f * (float)sin(1.0 + i + frame);
    facetalk_mesh *mesh;
    const double start = now_ms();
    need(facetalk_field_extract(field, code, count, resolution, box, 0.0f, &mesh));
    printf("%s %d: %.2f ms, %lld vertices, %lld faces\n", frame < 0 ? "warm-up" : "frame", frame < 0 ? 0 : frame,
           now_ms() - start, (long long)facetalk_mesh_vertex_count(mesh),
           (long long)facetalk_mesh_face_count(mesh));
    facetalk_mesh_free(mesh);
  }
  free(code);
  facetalk_field_free(field);
  return 0;
}
