/* Speech (16-bit mono WAV) to a CSV of curves, one row a frame:
 *   cc wav_to_csv.c $(python -m facetalk --cflags --libs) -o wav_to_csv
 *   ./wav_to_csv MODEL_FOLDER speech.wav [LOOK_AHEAD_S] > curves.csv */
#include <facetalk.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(facetalk_status status) {
  if (status == FACETALK_OK) return;
  fprintf(stderr, "error: %s\n", facetalk_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  unsigned char head[44]; /* the usual header; other chunks than these two are for a library to read */
  FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
  if (file == NULL || fread(head, 1, 44, file) != 44 || memcmp(head + 36, "data", 4) || head[22] != 1 || head[34] != 16) {
    fprintf(stderr, "usage: wav_to_csv MODEL_FOLDER SPEECH.wav [LOOK_AHEAD_S]  (16-bit mono)\n");
    return 2;
  }
  facetalk_model *model = NULL;
  facetalk_stream *stream = NULL;
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  options.sample_rate = head[24] | head[25] << 8 | head[26] << 16;
  options.look_ahead_s = argc > 3 ? atof(argv[3]) : INFINITY; /* without one, hear the whole recording first */
  need(facetalk_model_load(argv[1], &model));
  need(facetalk_stream_create(model, &options, &stream));
  const int32_t count = facetalk_model_curve_count(model);
  float samples[1024], *row = malloc((size_t)count * sizeof *row);
  printf("time");
  for (int32_t i = 0; i < count; ++i) printf(",%s", facetalk_model_curve_name(model, i));
  for (int64_t frame = 0, got = 1, over = 0; !over || got > 0;) {
    size_t heard = 0;
    unsigned char bytes[2];
    while (heard < 1024 && fread(bytes, 2, 1, file) == 1)
      samples[heard++] = (float)(int16_t)(bytes[0] | bytes[1] << 8) / 32768.0f;
    if (heard > 0) need(facetalk_stream_push(stream, samples, heard));
    if (heard == 0 && !over++) need(facetalk_stream_finish(stream));
    for (need(facetalk_stream_pull(stream, row, 1, &got)); got > 0; need(facetalk_stream_pull(stream, row, 1, &got))) {
      printf("\n%.6f", ((double)frame++ + 0.5) / facetalk_model_fps(model));
      for (int32_t i = 0; i < count; ++i) printf(",%.6f", row[i]);
    }
  }
  printf("\n");
  free(row);
  facetalk_stream_free(stream);
  facetalk_model_free(model);
  return fclose(file);
}
