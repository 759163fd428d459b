#include "decoding/beam.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sottovoce {
namespace {

constexpr double kAbsent = -std::numeric_limits<double>::infinity();

// Hash of a sequence and one more token (the finalizer of splitmix64): a clash has a chance of 2^-64 a pair.
std::uint64_t extend_key(std::uint64_t key, std::int64_t token) {
  std::uint64_t z = key * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(token) + 1;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

// NumPy's logaddexp, operation by operation, for finite numbers.
double log_add_exp(double x, double y) {
  if (x == y) return x + 0.693147180559945309417232121458176568;
  const double difference = x - y;
  return difference > 0 ? x + std::log1p(std::exp(-difference)) : y + std::log1p(std::exp(difference));
}

// One stream's hypotheses in one frame: their totals with each token, and where a blank leads.
class Frame {
 public:
  Frame(SearchState& state, const float* log_probs, std::size_t vocabulary, std::int64_t time)
      : state_(state), log_probs_(log_probs), vocabulary_(vocabulary), time_(time) {
    for (std::size_t b = 0; b < state.candidates.size(); ++b) {
      for (std::size_t k = 0; k < vocabulary; ++k) {
        totals_.push_back(state.candidates[b].score + static_cast<double>(log_probs[b * vocabulary + k]));
      }
      if (state.hotwords) state.hotwords->add_bonuses(state.candidates[b].context, &totals_[b * vocabulary]);
      stayed_.push_back(state.candidates[b].trace);
    }
    merge();
  }

  // The next candidate, best first, and which hypothesis it continues; ties go to the lowest index.
  Candidate next(std::size_t& origin) {
    const auto best = std::max_element(totals_.begin(), totals_.end());
    const double score = *best;
    const auto at = static_cast<std::size_t>(best - totals_.begin());
    *best = kAbsent;
    origin = at / vocabulary_;
    const auto token = score == kAbsent ? kBlank : static_cast<std::int64_t>(at % vocabulary_);
    Candidate candidate = state_.candidates[origin];
    candidate.score = score;
    if (token == kBlank) {
      candidate.trace = stayed_[origin];
      return candidate;
    }
    candidate.parent = candidate.key;
    candidate.key = extend_key(candidate.key, token);
    candidate.last = token;
    if (state_.hotwords) candidate.context = state_.hotwords->step(candidate.context, token);
    candidate.trace = extend(origin, token);
    return candidate;
  }

 private:
  std::int32_t extend(std::size_t origin, std::int64_t token) {
    return state_.traces.extend(state_.candidates[origin].trace, token, time_,
                                log_probs_[origin * vocabulary_ + static_cast<std::size_t>(token)]);
  }

  // Adds up the two ways to one sequence: a blank after it, its last token after its beginning. A blank then continues
  // the trace of the likelier way. Hypotheses differ, so each has at most one partner.
  void merge() {
    for (std::size_t longer = 0; longer < stayed_.size(); ++longer) {
      for (std::size_t shorter = 0; shorter < stayed_.size(); ++shorter) {
        const Candidate &whole = state_.candidates[longer], &beginning = state_.candidates[shorter];
        const bool alive = std::isfinite(whole.score) && std::isfinite(beginning.score);
        if (!alive || whole.parent != beginning.key) continue;
        double& stay = totals_[longer * vocabulary_ + kBlank];
        double& extended = totals_[shorter * vocabulary_ + static_cast<std::size_t>(whole.last)];
        if (extended > stay) stayed_[longer] = extend(shorter, whole.last);
        stay = log_add_exp(stay, extended);
        extended = kAbsent;
      }
    }
  }

  SearchState& state_;
  const float* log_probs_;
  std::size_t vocabulary_;
  std::int64_t time_;
  std::vector<double> totals_;        // (B, V)
  std::vector<std::int32_t> stayed_;  // (B,) the trace that a blank continues
};

void copy_row(const std::vector<float>& from, std::size_t row, std::size_t width, std::vector<float>& to) {
  const auto start = from.begin() + static_cast<std::ptrdiff_t>(row * width);
  to.insert(to.end(), start, start + static_cast<std::ptrdiff_t>(width));
}

// Where a hypothesis that took a token lies.
struct Emitted {
  SearchState* state;
  std::size_t row;
};

// Replaces a stream's hypotheses by the chosen ones, and lists those whose predictor has a step to make.
void choose(SearchState& state, Frame& frame, std::size_t units, std::vector<Emitted>& emitted) {
  const std::size_t width = state.candidates.size(), floats = state.predictor.size() / width;
  std::vector<Candidate> chosen;
  std::vector<float> output, predictor;
  for (std::size_t k = 0; k < width; ++k) {
    std::size_t origin = 0;
    chosen.push_back(frame.next(origin));
    copy_row(state.output, origin, units, output);
    copy_row(state.predictor, origin, floats, predictor);
    if (chosen.back().key != state.candidates[origin].key) emitted.push_back({&state, k});
  }
  state.candidates = std::move(chosen);
  state.output = std::move(output);
  state.predictor = std::move(predictor);
  std::vector<std::int32_t*> ends;
  for (Candidate& candidate : state.candidates) ends.push_back(&candidate.trace);
  state.traces.keep(ends);
}

}  // namespace

void Beam::advance(Transducer& model, std::span<const SearchChunk> chunks) const {
  int most = 0;
  for (const SearchChunk& chunk : chunks) most = std::max(most, chunk.count);
  for (int t = 0; t < most; ++t) {
    std::vector<const SearchChunk*> rows;
    for (const SearchChunk& chunk : chunks) {
      if (chunk.count > t) rows.push_back(&chunk);
    }
    step(model, rows, t);
  }
  for (const SearchChunk& chunk : chunks) chunk.state->frames += chunk.count;
}

void Beam::step(Transducer& model, std::span<const SearchChunk* const> rows, int t) const {
  const auto units = static_cast<std::size_t>(model.joiner_units());
  const auto vocabulary = static_cast<std::size_t>(model.vocabulary()), width = static_cast<std::size_t>(width_);
  std::vector<float> encoder, output, log_probs(rows.size() * width * vocabulary);
  for (const SearchChunk* row : rows) {
    const float* frame = row->frames + static_cast<std::size_t>(t) * units;
    for (std::size_t b = 0; b < width; ++b) encoder.insert(encoder.end(), frame, frame + units);
    output.insert(output.end(), row->state->output.begin(), row->state->output.end());
  }
  model.joiner(encoder.data(), output.data(), static_cast<int>(rows.size() * width), log_probs.data());
  for (std::size_t i = 0; i < rows.size() * width; ++i) log_probs[i * vocabulary + kBlank] -= blank_penalty_;

  std::vector<Emitted> emitted;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    SearchState& state = *rows[i]->state;
    Frame frame(state, log_probs.data() + i * width * vocabulary, vocabulary, state.frames + t);
    choose(state, frame, units, emitted);
  }
  if (emitted.empty()) return;

  const std::size_t floats = model.predictor_floats();
  std::vector<std::int64_t> tokens;
  std::vector<float> predictor;
  for (const Emitted& one : emitted) {
    tokens.push_back(one.state->candidates[one.row].last);
    copy_row(one.state->predictor, one.row, floats, predictor);
  }
  output.resize(emitted.size() * units);
  model.predictor_step(tokens.data(), static_cast<int>(tokens.size()), predictor.data(), output.data());
  for (std::size_t i = 0; i < emitted.size(); ++i) {
    const Emitted& one = emitted[i];
    std::copy_n(output.data() + i * units, units, one.state->output.data() + one.row * units);
    std::copy_n(predictor.data() + i * floats, floats, one.state->predictor.data() + one.row * floats);
  }
}

}  // namespace sottovoce
