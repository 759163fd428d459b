/* Sottovoce: streaming speech recognition with one packed file, for C and whatever speaks it.
 *
 *   sottovoce_recognizer* recognizer = sottovoce_load("model.safetensors", NULL);
 *   sottovoce_stream* stream = sottovoce_stream_create(recognizer);
 *   sottovoce_accept_waveform(stream, 16000, samples, count);
 *   sottovoce_input_finished(stream);
 *   sottovoce_decode(&stream, 1);
 *   sottovoce_result* result = sottovoce_result_get(stream);
 *   puts(sottovoce_result_text(result));
 *
 * Functions that make something return NULL, and functions that do something return SOTTOVOCE_ERROR, where they fail;
 * sottovoce_last_error then says why. Objects are freed in any order; free functions take NULL. A recognizer may be
 * used by several threads, a stream or a result by one at a time. Texts are UTF-8. */
#ifndef SOTTOVOCE_H
#define SOTTOVOCE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SOTTOVOCE_API __attribute__((visibility("default")))
#else
#define SOTTOVOCE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes where a program that was compiled with an older header would break. */
#define SOTTOVOCE_ABI_VERSION 1

#define SOTTOVOCE_OK 0
#define SOTTOVOCE_ERROR (-1)

#define SOTTOVOCE_GREEDY 0
#define SOTTOVOCE_BEAM 1

typedef struct sottovoce_recognizer sottovoce_recognizer;
typedef struct sottovoce_stream sottovoce_stream;
typedef struct sottovoce_result sottovoce_result;

/* Holds when all of it holds; times in seconds. Nonsilence: a token in the segment; trailing silence: what was decoded
 * after the frame of its last token, or since it began; length: what was decoded since it began. */
typedef struct sottovoce_endpoint_rule {
  int32_t must_contain_nonsilence;
  double min_trailing_silence;
  double min_utterance_length;
} sottovoce_endpoint_rule;

/* Fill it in with sottovoce_options_init, then change what is to be different. */
typedef struct sottovoce_options {
  size_t size;         /* of this struct in the program's header */
  int32_t method;      /* SOTTOVOCE_GREEDY or SOTTOVOCE_BEAM */
  int32_t beam;        /* hypotheses of a beam search */
  int32_t max_symbols; /* tokens a frame at most; 1 for a beam search */
  float blank_penalty; /* subtracted from the blank's log-probability, nats; NAN, as it is first: what the file says */
  int32_t threads;     /* 1 to 256 */
  const char* kernels; /* the name of a kernel path; NULL: the environment's SOTTOVOCE_KERNEL, or the fastest */
  sottovoce_endpoint_rule endpoint[3]; /* any that holds; sherpa-onnx's: {0, 2.4, 0}, {1, 1.2, 0}, {0, 0, 20} */
} sottovoce_options;

/* A phrase that a beam search favours: its tokens, as the model's sentencepiece tokenizer makes them of it (this
 * library makes no tokens of text), and nats for each of them. */
typedef struct sottovoce_hotword {
  const int64_t* tokens;
  size_t count;
  double score; /* above 0; 1.5, say */
} sottovoce_hotword;

/* The version of the library; a program compares it with SOTTOVOCE_ABI_VERSION. */
SOTTOVOCE_API int32_t sottovoce_abi_version(void);

/* One line about the last failure on this thread, empty if there was none; valid until the next failure there. */
SOTTOVOCE_API const char* sottovoce_last_error(void);

/* Greedy, one thread. */
SOTTOVOCE_API void sottovoce_options_init(sottovoce_options* options);

/* options may be NULL. */
SOTTOVOCE_API sottovoce_recognizer* sottovoce_load(const char* path, const sottovoce_options* options);
SOTTOVOCE_API void sottovoce_recognizer_free(sottovoce_recognizer* recognizer);

/* The rate that waveforms are resampled to, Hz; 0 for a model that takes features only, or NULL. */
SOTTOVOCE_API int32_t sottovoce_sample_rate(const sottovoce_recognizer* recognizer);

/* Values of a feature frame; 0 for NULL. */
SOTTOVOCE_API int32_t sottovoce_feature_dim(const sottovoce_recognizer* recognizer);

/* A stream for one utterance, or for speech that never ends. */
SOTTOVOCE_API sottovoce_stream* sottovoce_stream_create(sottovoce_recognizer* recognizer);

/* The same with hotwords, which need a beam search; they are copied. */
SOTTOVOCE_API sottovoce_stream* sottovoce_stream_create_hotwords(sottovoce_recognizer* recognizer,
                                                                 const sottovoce_hotword* hotwords, size_t count);
SOTTOVOCE_API void sottovoce_stream_free(sottovoce_stream* stream);

/* Samples of one channel in [-1, 1], any number of them, at a rate that stays the same for the whole stream. */
SOTTOVOCE_API int32_t sottovoce_accept_waveform(sottovoce_stream* stream, int32_t sample_rate, const float* samples,
                                                size_t count);

/* Feature frames (frames, dim), computed as the model's input settings say. */
SOTTOVOCE_API int32_t sottovoce_accept_features(sottovoce_stream* stream, const float* features, size_t frames,
                                                size_t dim);

/* No more input follows. */
SOTTOVOCE_API int32_t sottovoce_input_finished(sottovoce_stream* stream);

/* 1 if decoding now would see at least one more encoder frame, else 0; SOTTOVOCE_ERROR for NULL. */
SOTTOVOCE_API int32_t sottovoce_is_ready(const sottovoce_stream* stream);

/* Decodes all that is pending in each of the streams, all different and of one recognizer, in batches. */
SOTTOVOCE_API int32_t sottovoce_decode(sottovoce_stream* const* streams, size_t count);

/* 1 if what was decoded since the last reset is a whole utterance by the endpoint rules, else 0. */
SOTTOVOCE_API int32_t sottovoce_is_endpoint(const sottovoce_stream* stream);

/* Begins a new segment: results hold what is decoded from now on, and times go on in the stream's clock. The states of
 * encoder and predictor (after the best transcript) stay, as in sherpa-onnx; what the ended segment held is freed. */
SOTTOVOCE_API int32_t sottovoce_reset(sottovoce_stream* stream);

/* The best transcript of what was decoded since the stream began or was last reset, or the next best ones from rank 1
 * to the beam's width at most (NULL beyond what was found). It stays as it is when the stream goes on. */
SOTTOVOCE_API sottovoce_result* sottovoce_result_get(const sottovoce_stream* stream);
SOTTOVOCE_API sottovoce_result* sottovoce_result_nbest(const sottovoce_stream* stream, size_t rank);
SOTTOVOCE_API void sottovoce_result_free(sottovoce_result* result);

/* Of a result, while it lives. For NULL, or a token or word that is not there: an empty text, 0, -1, NaN. */
SOTTOVOCE_API const char* sottovoce_result_text(const sottovoce_result* result);
SOTTOVOCE_API double sottovoce_result_score(const sottovoce_result* result); /* log-probability, nats */
SOTTOVOCE_API size_t sottovoce_result_count(const sottovoce_result* result); /* tokens */
SOTTOVOCE_API const char* sottovoce_result_token(const sottovoce_result* result, size_t index);
SOTTOVOCE_API int64_t sottovoce_result_id(const sottovoce_result* result, size_t index);
SOTTOVOCE_API double sottovoce_result_time(const sottovoce_result* result, size_t index);    /* seconds */
SOTTOVOCE_API float sottovoce_result_log_prob(const sottovoce_result* result, size_t index); /* nats */
SOTTOVOCE_API int64_t sottovoce_result_segment(const sottovoce_result* result);   /* segments with a text before it */
SOTTOVOCE_API double sottovoce_result_start_time(const sottovoce_result* result); /* of the segment, seconds */

/* Words: from the start of the frame of the first token to the end of that of the last one, seconds; confidence, 0 to
 * 1: the geometric mean of the tokens' probabilities by the model, without blank penalty. */
SOTTOVOCE_API size_t sottovoce_result_word_count(const sottovoce_result* result);
SOTTOVOCE_API const char* sottovoce_result_word(const sottovoce_result* result, size_t index);
SOTTOVOCE_API double sottovoce_result_word_start(const sottovoce_result* result, size_t index);
SOTTOVOCE_API double sottovoce_result_word_end(const sottovoce_result* result, size_t index);
SOTTOVOCE_API double sottovoce_result_word_confidence(const sottovoce_result* result, size_t index);

#ifdef __cplusplus
}
#endif

#endif
