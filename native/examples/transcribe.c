/* Transcribes a wav of 16-bit PCM, each utterance where it ends: transcribe MODEL WAV [beam]. Plain C11 over
 * sottovoce.h. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sottovoce.h"

enum { CHUNK = 1600 }; /* samples at once, as a microphone would give them */

typedef struct {
  FILE* file;
  uint32_t rate, frames;
  uint16_t channels;
} wav;

static uint32_t little(const unsigned char* bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; ++i) value |= (uint32_t)bytes[i] << 8 * i;
  return value;
}

/* Leaves the file at its first sample. Returns NULL, or what is wrong. */
static const char* open_wav(const char* path, wav* audio) {
  unsigned char head[12], format[16];
  int has_format = 0;
  audio->file = fopen(path, "rb");
  if (!audio->file) return "no such file";
  if (fread(head, 1, 12, audio->file) != 12 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0) {
    return "not a wav";
  }
  while (fread(head, 1, 8, audio->file) == 8) {
    uint32_t size = little(head + 4, 4);
    if (memcmp(head, "data", 4) == 0) {
      if (!has_format) return "no format before its samples";
      audio->frames = size / (2u * audio->channels);
      return NULL;
    }
    if (memcmp(head, "fmt ", 4) == 0) {
      if (size < 16 || fread(format, 1, 16, audio->file) != 16) return "cut short";
      audio->channels = (uint16_t)little(format + 2, 2);
      audio->rate = little(format + 4, 4);
      if (little(format, 2) != 1 || little(format + 14, 2) != 16 || audio->channels == 0) return "not 16-bit PCM";
      has_format = 1;
      size -= 16;
    }
    if (size > INT32_MAX || fseek(audio->file, (long)(size + size % 2), SEEK_CUR) != 0) return "cut short";
  }
  return "no samples in it";
}

/* The next samples, channels averaged; how many there are. */
static size_t read_samples(wav* audio, float* samples, size_t most) {
  size_t count = 0;
  for (; count < most && audio->frames > 0; ++count, --audio->frames) {
    float sum = 0;
    for (int channel = 0; channel < audio->channels; ++channel) {
      unsigned char bytes[2];
      if (fread(bytes, 1, 2, audio->file) != 2) return count;
      sum += (float)(int16_t)(uint16_t)little(bytes, 2) / 32768.0f;
    }
    samples[count] = sum / (float)audio->channels;
  }
  return count;
}

static int fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  return 2;
}

/* The transcript, then its tokens: time, text, log-probability; nothing for silence. */
static int print_segment(const sottovoce_stream* stream) {
  sottovoce_result* result = sottovoce_result_get(stream);
  if (!result) return SOTTOVOCE_ERROR;
  if (sottovoce_result_count(result) > 0) puts(sottovoce_result_text(result));
  for (size_t i = 0; i < sottovoce_result_count(result); ++i) {
    printf("%.3f\t%s\t%.4f\n", sottovoce_result_time(result, i), sottovoce_result_token(result, i),
           (double)sottovoce_result_log_prob(result, i));
  }
  sottovoce_result_free(result);
  return SOTTOVOCE_OK;
}

static int transcribe(sottovoce_stream* stream, wav* audio) {
  float samples[CHUNK];
  size_t count;
  while ((count = read_samples(audio, samples, CHUNK)) > 0) {
    if (sottovoce_accept_waveform(stream, (int32_t)audio->rate, samples, count) != SOTTOVOCE_OK) return SOTTOVOCE_ERROR;
    if (sottovoce_decode(&stream, 1) != SOTTOVOCE_OK) return SOTTOVOCE_ERROR;
    if (sottovoce_is_endpoint(stream) == 1) {
      if (print_segment(stream) != SOTTOVOCE_OK || sottovoce_reset(stream) != SOTTOVOCE_OK) return SOTTOVOCE_ERROR;
    }
  }
  if (sottovoce_input_finished(stream) != SOTTOVOCE_OK) return SOTTOVOCE_ERROR;
  return sottovoce_decode(&stream, 1) == SOTTOVOCE_OK ? print_segment(stream) : SOTTOVOCE_ERROR;
}

static int run(const char* model, const char* path, int beam, wav* audio) {
  sottovoce_options options;
  sottovoce_options_init(&options);
  if (beam > 0) {
    options.method = SOTTOVOCE_BEAM;
    options.beam = beam;
  }
  const char* wrong = open_wav(path, audio);
  if (wrong) return fail(path, wrong);
  sottovoce_recognizer* recognizer = sottovoce_load(model, &options);
  sottovoce_stream* stream = recognizer ? sottovoce_stream_create(recognizer) : NULL;
  const int done = stream && transcribe(stream, audio) == SOTTOVOCE_OK;
  const int status = done ? 0 : fail("error", sottovoce_last_error());
  sottovoce_stream_free(stream);
  sottovoce_recognizer_free(recognizer);
  return status;
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) return fail("usage", "transcribe MODEL WAV [beam]");
  if (sottovoce_abi_version() != SOTTOVOCE_ABI_VERSION) return fail("error", "the library is of another version");
  wav audio = {NULL, 0, 0, 0};
  const int status = run(argv[1], argv[2], argc == 4 ? atoi(argv[3]) : 0, &audio);
  if (audio.file) fclose(audio.file);
  return status;
}
