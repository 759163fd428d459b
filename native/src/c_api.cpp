// The C ABI over Recognizer: every pointer and size is checked, and no exception leaves.
#include "sottovoce.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "error.hpp"
#include "recognizer.hpp"

struct sottovoce_recognizer {
  std::shared_ptr<sottovoce::Recognizer> recognizer;
};

struct sottovoce_stream {
  std::shared_ptr<sottovoce::Recognizer> recognizer;  // it lives as long as its streams
  sottovoce::Stream stream;
};

struct sottovoce_result {
  sottovoce::Result result;
};

namespace {

using sottovoce::Error;

constexpr std::size_t kMostText = 1000;

// Memory of its own, so that running out of memory can be reported too.
thread_local char last_error[kMostText] = "";

void remember(const char* text) noexcept { std::strncpy(last_error, text, kMostText - 1); }

// What `work` returns, or `failed` once its exception is remembered.
template <class Work, class Value>
Value guard(Value failed, const Work& work) noexcept {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    remember("out of memory");
  } catch (const std::exception& error) {
    remember(error.what());
  } catch (...) {
    remember("unknown failure");
  }
  return failed;
}

template <class T>
T& checked(T* pointer, const char* name) {
  if (!pointer) throw Error(std::string(name) + ": expected a pointer, found NULL");
  return *pointer;
}

template <class T>
std::span<const T> checked_array(const T* data, std::size_t count, const char* name) {
  if (count > 0) checked(data, name);
  if (count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T)) {
    throw Error(std::string(name) + ": too many: " + std::to_string(count));
  }
  return {data, count};
}

sottovoce::RecognizerOptions read_options(const sottovoce_options& options) {
  if (options.size != sizeof(sottovoce_options)) {
    throw Error("options: expected size " + std::to_string(sizeof(sottovoce_options)) + ", found " +
                std::to_string(options.size) + ": use sottovoce_options_init");
  }
  if (options.method != SOTTOVOCE_GREEDY && options.method != SOTTOVOCE_BEAM) {
    throw Error("options: unknown method " + std::to_string(options.method));
  }
  sottovoce::RecognizerOptions read;
  read.search.method = options.method == SOTTOVOCE_BEAM ? sottovoce::Method::beam : sottovoce::Method::greedy;
  read.search.beam = options.beam;
  read.search.max_symbols = options.max_symbols;
  if (!std::isnan(options.blank_penalty)) read.search.blank_penalty = options.blank_penalty;
  read.threads = options.threads;
  for (std::size_t i = 0; i < read.endpoint.size(); ++i) {
    const sottovoce_endpoint_rule& rule = options.endpoint[i];
    read.endpoint[i] = {rule.must_contain_nonsilence != 0, rule.min_trailing_silence, rule.min_utterance_length};
  }
  if (options.kernels) read.kernels = options.kernels;
  return read;
}

const sottovoce::Result* find(const sottovoce_result* result, std::size_t index) {
  return result && index < result->result.ids.size() ? &result->result : nullptr;
}

const sottovoce::Word* find_word(const sottovoce_result* result, std::size_t index) {
  return result && index < result->result.words.size() ? &result->result.words[index] : nullptr;
}

}  // namespace

int32_t sottovoce_abi_version(void) { return SOTTOVOCE_ABI_VERSION; }

const char* sottovoce_last_error(void) { return last_error; }

void sottovoce_options_init(sottovoce_options* options) {
  if (!options) return;
  *options = {sizeof(sottovoce_options), SOTTOVOCE_GREEDY, 4, 1, NAN, 1, nullptr, {}};
  for (std::size_t i = 0; i < sottovoce::kDefaultRules.size(); ++i) {
    const sottovoce::EndpointRule& rule = sottovoce::kDefaultRules[i];
    options->endpoint[i] = {rule.must_contain_nonsilence, rule.min_trailing_silence, rule.min_utterance_length};
  }
}

sottovoce_recognizer* sottovoce_load(const char* path, const sottovoce_options* options) {
  return guard(static_cast<sottovoce_recognizer*>(nullptr), [&] {
    const std::string file = &checked(path, "path");
    const auto read = options ? read_options(*options) : sottovoce::RecognizerOptions{};
    return new sottovoce_recognizer{std::make_shared<sottovoce::Recognizer>(file, read)};
  });
}

void sottovoce_recognizer_free(sottovoce_recognizer* recognizer) { delete recognizer; }

int32_t sottovoce_sample_rate(const sottovoce_recognizer* recognizer) {
  const auto* settings =
      recognizer && recognizer->recognizer->input().settings ? &*recognizer->recognizer->input().settings : nullptr;
  return settings ? settings->sample_rate : 0;
}

int32_t sottovoce_feature_dim(const sottovoce_recognizer* recognizer) {
  return recognizer ? static_cast<int32_t>(recognizer->recognizer->input().dim) : 0;
}

sottovoce_stream* sottovoce_stream_create(sottovoce_recognizer* recognizer) {
  return sottovoce_stream_create_hotwords(recognizer, nullptr, 0);
}

sottovoce_stream* sottovoce_stream_create_hotwords(sottovoce_recognizer* recognizer, const sottovoce_hotword* hotwords,
                                                   size_t count) {
  return guard(static_cast<sottovoce_stream*>(nullptr), [&] {
    const auto& shared = checked(recognizer, "recognizer").recognizer;
    std::vector<sottovoce::Phrase> phrases;
    for (const sottovoce_hotword& hotword : checked_array(hotwords, count, "hotwords")) {
      const auto tokens = checked_array(hotword.tokens, hotword.count, "tokens");
      phrases.push_back({{tokens.begin(), tokens.end()}, hotword.score});
    }
    return new sottovoce_stream{shared, shared->create_stream(phrases)};
  });
}

void sottovoce_stream_free(sottovoce_stream* stream) { delete stream; }

int32_t sottovoce_is_endpoint(const sottovoce_stream* stream) {
  return guard(SOTTOVOCE_ERROR, [&] {
    const sottovoce_stream& one = checked(stream, "stream");
    return one.recognizer->is_endpoint(one.stream) ? 1 : 0;
  });
}

int32_t sottovoce_reset(sottovoce_stream* stream) {
  return guard(SOTTOVOCE_ERROR, [&] {
    sottovoce_stream& one = checked(stream, "stream");
    one.recognizer->reset(one.stream);
    return SOTTOVOCE_OK;
  });
}

int32_t sottovoce_accept_waveform(sottovoce_stream* stream, int32_t sample_rate, const float* samples, size_t count) {
  return guard(SOTTOVOCE_ERROR, [&] {
    checked(stream, "stream").stream.accept_waveform(sample_rate, checked_array(samples, count, "samples"));
    return SOTTOVOCE_OK;
  });
}

int32_t sottovoce_accept_features(sottovoce_stream* stream, const float* features, size_t frames, size_t dim) {
  return guard(SOTTOVOCE_ERROR, [&] {
    sottovoce_stream& into = checked(stream, "stream");
    const auto expected = static_cast<std::size_t>(into.recognizer->input().dim);
    if (dim != expected) {
      throw Error("features: expected " + std::to_string(expected) + " values a frame, found " + std::to_string(dim));
    }
    if (frames > std::numeric_limits<std::size_t>::max() / dim) throw Error("features: too many frames");
    into.stream.accept_features(checked_array(features, frames * dim, "features"));
    return SOTTOVOCE_OK;
  });
}

int32_t sottovoce_input_finished(sottovoce_stream* stream) {
  return guard(SOTTOVOCE_ERROR, [&] {
    checked(stream, "stream").stream.input_finished();
    return SOTTOVOCE_OK;
  });
}

int32_t sottovoce_is_ready(const sottovoce_stream* stream) {
  return guard(SOTTOVOCE_ERROR, [&] {
    const sottovoce_stream& one = checked(stream, "stream");
    return one.recognizer->is_ready(one.stream) ? 1 : 0;
  });
}

int32_t sottovoce_decode(sottovoce_stream* const* streams, size_t count) {
  return guard(SOTTOVOCE_ERROR, [&] {
    std::vector<sottovoce::Stream*> group;
    for (sottovoce_stream* stream : checked_array(streams, count, "streams")) {
      if (checked(stream, "stream").recognizer != streams[0]->recognizer) {
        throw Error("streams: expected all of one recognizer");
      }
      group.push_back(&stream->stream);
    }
    if (!group.empty()) streams[0]->recognizer->decode(group);
    return SOTTOVOCE_OK;
  });
}

sottovoce_result* sottovoce_result_get(const sottovoce_stream* stream) { return sottovoce_result_nbest(stream, 0); }

sottovoce_result* sottovoce_result_nbest(const sottovoce_stream* stream, size_t rank) {
  return guard(static_cast<sottovoce_result*>(nullptr), [&]() -> sottovoce_result* {
    const sottovoce_stream& one = checked(stream, "stream");
    std::vector<sottovoce::Result> found = one.recognizer->results(one.stream);
    if (rank >= found.size()) {
      throw Error("rank: expected one below " + std::to_string(found.size()) + ", found " + std::to_string(rank));
    }
    return new sottovoce_result{std::move(found[rank])};
  });
}

void sottovoce_result_free(sottovoce_result* result) { delete result; }

const char* sottovoce_result_text(const sottovoce_result* result) { return result ? result->result.text.c_str() : ""; }

double sottovoce_result_score(const sottovoce_result* result) { return result ? result->result.score : NAN; }

size_t sottovoce_result_count(const sottovoce_result* result) { return result ? result->result.ids.size() : 0; }

const char* sottovoce_result_token(const sottovoce_result* result, size_t index) {
  const sottovoce::Result* found = find(result, index);
  return found ? found->tokens[index].c_str() : "";
}

int64_t sottovoce_result_id(const sottovoce_result* result, size_t index) {
  const sottovoce::Result* found = find(result, index);
  return found ? found->ids[index] : -1;
}

double sottovoce_result_time(const sottovoce_result* result, size_t index) {
  const sottovoce::Result* found = find(result, index);
  return found ? found->times[index] : NAN;
}

float sottovoce_result_log_prob(const sottovoce_result* result, size_t index) {
  const sottovoce::Result* found = find(result, index);
  return found ? found->log_probs[index] : NAN;
}

int64_t sottovoce_result_segment(const sottovoce_result* result) { return result ? result->result.segment : -1; }

double sottovoce_result_start_time(const sottovoce_result* result) { return result ? result->result.start_time : NAN; }

size_t sottovoce_result_word_count(const sottovoce_result* result) { return result ? result->result.words.size() : 0; }

const char* sottovoce_result_word(const sottovoce_result* result, size_t index) {
  const sottovoce::Word* word = find_word(result, index);
  return word ? word->text.c_str() : "";
}

double sottovoce_result_word_start(const sottovoce_result* result, size_t index) {
  const sottovoce::Word* word = find_word(result, index);
  return word ? word->start : NAN;
}

double sottovoce_result_word_end(const sottovoce_result* result, size_t index) {
  const sottovoce::Word* word = find_word(result, index);
  return word ? word->end : NAN;
}

double sottovoce_result_word_confidence(const sottovoce_result* result, size_t index) {
  const sottovoce::Word* word = find_word(result, index);
  return word ? word->confidence : NAN;
}
