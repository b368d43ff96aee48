/* Speech (16-bit mono WAV) to a CSV of curves, one row a frame:
 *   cc wav_to_csv.c $(python -m facetalk --cflags --libs) -lm -o wav_to_csv
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
  unsigned char h[44], bytes[2] = {0}; /* the usual header; files with other chunks are for a library to read */
  FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
  if (argc < 3) return fprintf(stderr, "usage: wav_to_csv MODEL_FOLDER SPEECH.wav [LOOK_AHEAD_S]\n"), 2;
  if (file == NULL) return fprintf(stderr, "error: cannot open %s\n", argv[2]), 2;
  if (fread(h, 1, 44, file) != 44 || memcmp(h + 36, "data", 4) || h[20] != 1 || h[22] != 1 || h[34] != 16)
    return fprintf(stderr, "error: %s is not a 16-bit mono WAV with the usual header\n", argv[2]), 2;
  facetalk_model *model;
  facetalk_stream *stream;
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  options.sample_rate = h[24] | h[25] << 8 | h[26] << 16;
  options.look_ahead_s = argc > 3 ? atof(argv[3]) : INFINITY; /* else hear the whole recording first */
  need(facetalk_model_load(argv[1], &model));
  need(facetalk_stream_create(model, &options, &stream));
  const int32_t count = facetalk_model_curve_count(model);
  float *row = malloc((size_t)count * sizeof *row);
  printf("time");
  for (int32_t i = 0; i < count; ++i) printf(",%s", facetalk_model_curve_name(model, i));
  for (int64_t frame = 0, got, more = 1; more;) {
    more = fread(bytes, 2, 1, file) == 1;
    const float sample = (float)(int16_t)(bytes[0] | bytes[1] << 8) / 32768.0f;
    need(more ? facetalk_stream_push(stream, &sample, 1) : facetalk_stream_finish(stream));
    while (need(facetalk_stream_pull(stream, row, 1, &got)), got > 0) {
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
