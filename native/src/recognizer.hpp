// From sound to text with one packed file (sottovoce.runtime.recognizer).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decoding/endpoint.hpp"
#include "decoding/search.hpp"
#include "decoding/tokenizer.hpp"
#include "decoding/words.hpp"
#include "file/architecture.hpp"
#include "network.hpp"
#include "stream.hpp"

namespace sottovoce {

struct RecognizerOptions {
  SearchOptions search;
  int threads = 1;
  std::string kernels;  // the name of a path; empty: SOTTOVOCE_KERNEL, or the fastest
  std::array<EndpointRule, 3> endpoint = kDefaultRules;
};

// One transcript of a stream, or of its present segment once it was reset. tokens: pieces of text; times: seconds from
// the start of the stream at which the encoder frame that emitted each token begins; log_probs: of each token; score:
// of the whole, nats; segment: how many segments with a transcript came before; start_time: that of the segment,
// seconds.
struct Result {
  std::string text;
  std::vector<std::string> tokens;
  std::vector<std::int64_t> ids;
  std::vector<double> times;
  std::vector<float> log_probs;
  double score = 0;
  std::vector<Word> words;
  std::int64_t segment = 0;
  double start_time = 0;
};

// Any chunking gives the same result, bit for bit, and so does any batch. Calls may come from several threads: decoding
// is done one call at a time; a stream itself belongs to one thread at a time.
class Recognizer {
 public:
  // Throws Error, one line with the file's name, for a model that cannot run; Error for an option.
  Recognizer(const std::string& path, const RecognizerOptions& options);

  const ModelInput& input() const { return *input_; }

  // hotwords: of a beam search. Throws Error for those that cannot be used.
  Stream create_stream(std::span<const Phrase> hotwords = {});

  // Whether decoding now would see at least one more encoder frame.
  bool is_ready(const Stream& stream) const;

  // Decodes all that is pending in each; streams, all different, share their batches where they can.
  void decode(std::span<Stream* const> streams);

  // Whether what was decoded since the last reset is a whole utterance, by the endpoint rules.
  bool is_endpoint(const Stream& stream) const;

  // Begins a new segment: results hold what is decoded from now on, times go on in the stream's clock, and so do the
  // states of the encoder and, after the best hypothesis, of the predictor.
  void reset(Stream& stream) const;

  // What was found in the present segment, best first; never empty.
  std::vector<Result> results(const Stream& stream) const;

 private:
  void read(const ModelFile& file, const RecognizerOptions& options);
  void decode_group(std::span<Stream* const> group, int count);
  Result make_result(Hypothesis hypothesis, const Stream& stream) const;
  double frame_seconds() const;

  std::unique_ptr<Search> search_;
  std::array<EndpointRule, 3> endpoint_;
  std::unique_ptr<Network> network_;
  std::optional<ModelInput> input_;
  std::optional<Tokenizer> tokenizer_;
  std::mutex mutex_;  // of the network's memory
};

}  // namespace sottovoce
