#include "recognizer.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "error.hpp"
#include "file/model_file.hpp"

namespace sottovoce {
namespace {

constexpr std::int64_t kChunk = 1'000;  // feature frames in one encoder step: bounds memory, changes no result

// Streams that can share a step, with as many frames left over in the encoder; each takes what the least has.
using Alike = std::pair<std::size_t, std::size_t>;

std::map<Alike, std::vector<Stream*>> group_alike(std::span<Stream* const> streams) {
  std::map<Alike, std::vector<Stream*>> groups;
  for (Stream* stream : streams) {
    if (stream->pending() == 0) continue;
    groups[{stream->encoder.history.size(), stream->encoder.waiting.size()}].push_back(stream);
  }
  return groups;
}

std::int64_t frames_together(std::span<Stream* const> group) {
  std::int64_t least = kChunk;
  for (const Stream* stream : group) least = std::min(least, stream->pending());
  return least;
}

}  // namespace

Recognizer::Recognizer(const std::string& path, const RecognizerOptions& options)
    : search_(make_search(options.search)), endpoint_(options.endpoint) {
  check_rules(endpoint_);
  const ModelFile file(path);  // its errors name it
  try {
    read(file, options);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  } catch (const std::invalid_argument& error) {
    throw Error(path + ": " + error.what());
  }
}

void Recognizer::read(const ModelFile& file, const RecognizerOptions& options) {
  network_ = std::make_unique<Network>(file, options.kernels, options.threads);
  input_ = read_input(file.input());
  const RnntArchitecture& architecture = network_->architecture();
  if (input_->dim != architecture.features) {
    throw Error("input: expected " + std::to_string(architecture.features) + " features a frame, found " +
                std::to_string(input_->dim));
  }
  if (!options.search.blank_penalty) {
    SearchOptions search = options.search;
    search.blank_penalty = architecture.blank_penalty;
    search_ = make_search(search);
  }
  if (!file.tokenizer()) throw Error("tokenizer: expected one in the model, found none");
  tokenizer_.emplace(file.tokenizer()->bytes);
  if (tokenizer_->vocabulary() != architecture.vocabulary) {
    throw Error("tokenizer: expected " + std::to_string(architecture.vocabulary) + " tokens as in the network, found " +
                std::to_string(tokenizer_->vocabulary()));
  }
}

Stream Recognizer::create_stream(std::span<const Phrase> hotwords) {
  const std::lock_guard lock(mutex_);
  return {*input_, network_->encoder_start(), search_->start(*network_, hotwords)};
}

bool Recognizer::is_ready(const Stream& stream) const {
  const std::int64_t subsampling = network_->architecture().subsampling();
  return (stream.decoded() + stream.pending()) / subsampling > stream.decoded() / subsampling;
}

void Recognizer::decode(std::span<Stream* const> streams) {
  const std::lock_guard lock(mutex_);
  std::vector<Stream*> sorted(streams.begin(), streams.end());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) throw Error("streams: one is given twice");
  for (auto groups = group_alike(streams); !groups.empty(); groups = group_alike(streams)) {
    for (const auto& [alike, group] : groups) decode_group(group, static_cast<int>(frames_together(group)));
  }
}

void Recognizer::decode_group(std::span<Stream* const> group, int count) {
  std::vector<float> features, frames;
  std::vector<EncoderMemory*> memories;
  for (Stream* stream : group) {
    const std::vector<float> taken = stream->take(count);
    features.insert(features.end(), taken.begin(), taken.end());
    memories.push_back(&stream->encoder);
  }
  const int steps = network_->encoder_step(features.data(), count, memories, frames);
  std::vector<SearchChunk> chunks;
  for (Stream* stream : group) {
    const std::size_t each = frames.size() / group.size();
    chunks.push_back({&stream->search, frames.data() + chunks.size() * each, steps});
  }
  search_->advance(*network_, chunks);
}

bool Recognizer::is_endpoint(const Stream& stream) const {
  return sottovoce::is_endpoint(endpoint_, search_->segment(stream.search), frame_seconds());
}

void Recognizer::reset(Stream& stream) const {
  if (search_->segment(stream.search).nonsilence) ++stream.segment;
  search_->restart(stream.search);
}

double Recognizer::frame_seconds() const {
  return static_cast<double>(network_->architecture().subsampling()) / input_->rate;
}

std::vector<Result> Recognizer::results(const Stream& stream) const {
  std::vector<Result> found;
  for (Hypothesis& hypothesis : search_->results(stream.search)) {
    found.push_back(make_result(std::move(hypothesis), stream));
  }
  return found;
}

Result Recognizer::make_result(Hypothesis hypothesis, const Stream& stream) const {
  Result result;
  result.text = tokenizer_->decode(hypothesis.tokens);
  result.words = words_of(hypothesis, *tokenizer_, frame_seconds());
  result.segment = stream.segment;
  result.start_time = frames_to_seconds(search_->segment(stream.search).start, frame_seconds());
  for (const std::int64_t time : hypothesis.times) result.times.push_back(frames_to_seconds(time, frame_seconds()));
  for (const std::int64_t token : hypothesis.tokens) result.tokens.push_back(tokenizer_->piece(token));
  result.ids = std::move(hypothesis.tokens);
  result.log_probs = std::move(hypothesis.log_probs);
  result.score = hypothesis.score;
  return result;
}

}  // namespace sottovoce
