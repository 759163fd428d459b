// Time-synchronous beam search: one symbol a frame at most, equal token sequences merged.
#pragma once

#include "decoding/search.hpp"

namespace sottovoce {

class Beam : public Search {
 public:
  Beam(int beam, float blank_penalty) : Search(beam, true), blank_penalty_(blank_penalty) {}

  void advance(Transducer& model, std::span<const SearchChunk> chunks) const override;

 private:
  void step(Transducer& model, std::span<const SearchChunk* const> rows, int t) const;

  float blank_penalty_;
};

}  // namespace sottovoce
