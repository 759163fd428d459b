#include "decoding/search.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "decoding/beam.hpp"
#include "decoding/greedy.hpp"
#include "error.hpp"

namespace sottovoce {
namespace {

constexpr int kMostBeam = 1000;

}  // namespace

SearchState Search::start(Transducer& model) const {
  const auto width = static_cast<std::size_t>(width_), units = static_cast<std::size_t>(model.joiner_units());
  SearchState state;
  state.candidates.assign(width, {-std::numeric_limits<double>::infinity(), 1, 0, 0, kEmptyTrace});
  state.candidates[0].score = 0;
  state.output.resize(width * units);
  state.predictor.resize(width * model.predictor_floats());
  const std::vector<std::int64_t> tokens(width, kNoHistory);
  model.predictor_step(tokens.data(), width_, state.predictor.data(), state.output.data());
  return state;
}

std::vector<Hypothesis> Search::results(const SearchState& state) const {
  std::vector<Hypothesis> found;
  for (const Candidate& candidate : state.candidates) {
    if (std::isfinite(candidate.score)) found.push_back(state.traces.follow(candidate.trace, candidate.score));
  }
  return found;
}

std::unique_ptr<Search> make_search(const SearchOptions& options) {
  if (!std::isfinite(options.blank_penalty)) throw Error("blank_penalty must be a finite number");
  if (options.max_symbols < 1) {
    throw Error("max_symbols must be at least 1, found " + std::to_string(options.max_symbols));
  }
  if (options.method == Method::greedy) return std::make_unique<Greedy>(options.max_symbols, options.blank_penalty);
  if (options.max_symbols != 1) {
    throw Error("beam search takes one symbol a frame: max_symbols must be 1, found " +
                std::to_string(options.max_symbols));
  }
  if (options.beam < 1 || options.beam > kMostBeam) {
    throw Error("beam must be 1 to " + std::to_string(kMostBeam) + ", found " + std::to_string(options.beam));
  }
  return std::make_unique<Beam>(options.beam, options.blank_penalty);
}

}  // namespace sottovoce
