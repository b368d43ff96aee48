/* Speech (16-bit WAV) to a CSV of curves, one row a frame:
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

typedef struct {
  FILE *file;
  int32_t rate, channels;
  uint32_t left; /* bytes of sound; what a program that could not know them wrote there is more than there are */
} wav;

static uint32_t little_endian(const unsigned char *bytes, int count) {
  return count == 0 ? 0 : bytes[0] | little_endian(bytes + 1, count - 1) << 8;
}

/* Goes to the first sample, over whatever else ffmpeg, recorders and editors put before it. */
static int find_sound(wav *sound) {
  unsigned char head[12], format[16] = {0};
  if (fread(head, 1, 12, sound->file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) return 0;
  while (fread(head, 1, 8, sound->file) == 8) {
    uint32_t size = little_endian(head + 4, 4), read = 0;
    if (memcmp(head, "data", 4) == 0) {
      const uint32_t tag = little_endian(format, 2); /* 1: PCM; 0xFFFE: with a longer header */
      sound->channels = (int32_t)little_endian(format + 2, 2);
      sound->rate = (int32_t)little_endian(format + 4, 4);
      sound->left = size;
      return (tag == 1 || tag == 0xFFFE) && sound->channels > 0 && little_endian(format + 14, 2) == 16;
    }
    if (memcmp(head, "fmt ", 4) == 0) read = (uint32_t)fread(format, 1, size < 16 ? size : 16, sound->file);
    for (size += size & 1; read < size; ++read) /* chunks begin at even places; a pipe cannot be sought in */
      if (fgetc(sound->file) == EOF) return 0;
  }
  return 0;
}

/* The mean of the channels. */
static int next_sample(wav *sound, float *sample) {
  unsigned char bytes[2];
  *sample = 0.0f;
  for (int32_t i = 0; i < sound->channels; ++i, sound->left -= 2) {
    if (sound->left < 2 || fread(bytes, 1, 2, sound->file) != 2) return 0;
    *sample += (float)(int16_t)little_endian(bytes, 2) / 32768.0f / (float)sound->channels;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: wav_to_csv MODEL_FOLDER SPEECH.wav [LOOK_AHEAD_S]\n"), 2;
  wav sound = {fopen(argv[2], "rb"), 0, 0, 0};
  if (sound.file == NULL) return fprintf(stderr, "error: cannot open %s\n", argv[2]), 2;
  if (!find_sound(&sound)) return fprintf(stderr, "error: %s is not a 16-bit WAV\n", argv[2]), 2;
  facetalk_model *model;
  facetalk_stream *stream;
  facetalk_stream_options options;
  facetalk_stream_options_default(&options);
  options.sample_rate = sound.rate;
  options.look_ahead_s = argc > 3 ? atof(argv[3]) : INFINITY; /* else hear the whole recording first */
  need(facetalk_model_load(argv[1], &model));
  need(facetalk_stream_create(model, &options, &stream));
  const int32_t count = facetalk_model_curve_count(model);
  float *row = malloc((size_t)count * sizeof *row), sample;
  printf("time");
  for (int32_t i = 0; i < count; ++i) printf(",%s", facetalk_model_curve_name(model, i));
  for (int64_t frame = 0, got, more = 1; more;) {
    more = next_sample(&sound, &sample);
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
  return fclose(sound.file);
}
