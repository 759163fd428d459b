// At each frame the best token, at most max_symbols of them before the next frame; ties go to the lowest id.
#pragma once

#include "decoding/search.hpp"

namespace sottovoce {

class Greedy : public Search {
 public:
  Greedy(int max_symbols, float blank_penalty)
      : Search(1), max_symbols_(max_symbols), blank_penalty_(blank_penalty) {}

  void advance(Transducer& model, std::span<const SearchChunk> chunks) const override;

 private:
  using Rows = std::vector<const SearchChunk*>;

  Rows emit(Transducer& model, const Rows& rows, int t) const;

  int max_symbols_;
  float blank_penalty_;
};

}  // namespace sottovoce
