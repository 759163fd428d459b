// What a search asks of a network (sottovoce.decoding.protocol); tests give it another one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sottovoce {

inline constexpr std::int64_t kBlank = 0;
inline constexpr std::int64_t kNoHistory = -1;  // the token before the first one

class Transducer {
 public:
  virtual ~Transducer() = default;

  virtual int vocabulary() const = 0;    // tokens, the blank among them
  virtual int joiner_units() const = 0;  // the width of what the joiner reads
  virtual std::size_t predictor_floats() const = 0;  // the predictor's state of one hypothesis; it begins as zeros

  // tokens (n,); state (n, predictor_floats) is overwritten; output (n, joiner_units).
  virtual void predictor_step(const std::int64_t* tokens, int n, float* state, float* output) = 0;

  // encoder, predictor (n, joiner_units) -> log_probs (n, vocabulary).
  virtual void joiner(const float* encoder, const float* predictor, int n, float* log_probs) = 0;
};

}  // namespace sottovoce
