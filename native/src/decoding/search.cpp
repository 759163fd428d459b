#include "decoding/search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "decoding/beam.hpp"
#include "decoding/greedy.hpp"
#include "error.hpp"

namespace sottovoce {
namespace {

constexpr int kMostBeam = 1000;

// Every hypothesis but the first, which is empty, is absent.
void begin(std::vector<Candidate>& candidates) {
  std::fill(candidates.begin(), candidates.end(),
            Candidate{-std::numeric_limits<double>::infinity(), 1, 0, 0, kEmptyTrace, 0});
  candidates[0].score = 0;
}

// Without the credit of a match that is not complete.
double final_score(const SearchState& state, const Candidate& candidate) {
  return state.hotwords ? candidate.score - state.hotwords->credit(candidate.context) : candidate.score;
}

std::size_t best_candidate(const SearchState& state) {
  std::size_t best = 0;
  for (std::size_t b = 1; b < state.candidates.size(); ++b) {
    if (final_score(state, state.candidates[b]) > final_score(state, state.candidates[best])) best = b;
  }
  return best;
}

}  // namespace

SearchState Search::start(Transducer& model, std::span<const Phrase> hotwords) const {
  if (!hotwords.empty() && !takes_hotwords_) throw Error("hotwords need a beam search");
  const auto width = static_cast<std::size_t>(width_), units = static_cast<std::size_t>(model.joiner_units());
  SearchState state;
  if (!hotwords.empty()) state.hotwords = std::make_shared<const ContextGraph>(hotwords, model.vocabulary());
  state.candidates.resize(width);
  begin(state.candidates);
  state.output.resize(width * units);
  state.predictor.resize(width * model.predictor_floats());
  const std::vector<std::int64_t> tokens(width, kNoHistory);
  model.predictor_step(tokens.data(), width_, state.predictor.data(), state.output.data());
  return state;
}

void Search::restart(SearchState& state) const {
  const auto best = static_cast<std::ptrdiff_t>(best_candidate(state));
  state.start = state.frames;
  state.traces = {};
  begin(state.candidates);
  for (std::vector<float>* rows : {&state.output, &state.predictor}) {  // all begin from the history of the best
    const auto width = static_cast<std::ptrdiff_t>(rows->size() / state.candidates.size());
    const std::vector<float> history(rows->begin() + best * width, rows->begin() + (best + 1) * width);
    for (auto row = rows->begin(); row < rows->end(); row += width) std::copy(history.begin(), history.end(), row);
  }
}

Segment Search::segment(const SearchState& state) const {
  const std::int32_t trace = state.candidates[best_candidate(state)].trace;
  const bool nonsilence = trace != kEmptyTrace;
  const std::int64_t spoken = nonsilence ? state.traces.time_of(trace) + 1 : state.start;
  return {state.start, state.frames - state.start, state.frames - spoken, nonsilence};
}

std::vector<Hypothesis> Search::results(const SearchState& state) const {
  std::vector<Hypothesis> found;
  for (const Candidate& candidate : state.candidates) {
    if (!std::isfinite(candidate.score)) continue;
    found.push_back(state.traces.follow(candidate.trace, final_score(state, candidate)));
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  return found;
}

std::unique_ptr<Search> make_search(const SearchOptions& options) {
  const float blank_penalty = options.blank_penalty.value_or(0.0f);
  if (!std::isfinite(blank_penalty)) throw Error("blank_penalty must be a finite number");
  if (options.max_symbols < 1) {
    throw Error("max_symbols must be at least 1, found " + std::to_string(options.max_symbols));
  }
  if (options.method == Method::greedy) return std::make_unique<Greedy>(options.max_symbols, blank_penalty);
  if (options.max_symbols != 1) {
    throw Error("beam search takes one symbol a frame: max_symbols must be 1, found " +
                std::to_string(options.max_symbols));
  }
  if (options.beam < 1 || options.beam > kMostBeam) {
    throw Error("beam must be 1 to " + std::to_string(kMostBeam) + ", found " + std::to_string(options.beam));
  }
  return std::make_unique<Beam>(options.beam, blank_penalty);
}

}  // namespace sottovoce
