#include "decoding/greedy.hpp"

#include <algorithm>

namespace sottovoce {

void Greedy::advance(Transducer& model, std::span<const SearchChunk> chunks) const {
  int most = 0;
  for (const SearchChunk& chunk : chunks) most = std::max(most, chunk.count);
  for (int t = 0; t < most; ++t) {
    Rows rows;
    for (const SearchChunk& chunk : chunks) {
      if (chunk.count > t) rows.push_back(&chunk);
    }
    for (int symbol = 0; symbol < max_symbols_ && !rows.empty(); ++symbol) rows = emit(model, rows, t);
  }
  for (const SearchChunk& chunk : chunks) chunk.state->frames += chunk.count;
}

// One symbol for each of the rows; returns those whose symbol was not blank.
Greedy::Rows Greedy::emit(Transducer& model, const Rows& rows, int t) const {
  const auto units = static_cast<std::size_t>(model.joiner_units());
  const auto vocabulary = static_cast<std::size_t>(model.vocabulary());
  std::vector<float> encoder, output, log_probs(rows.size() * vocabulary);
  for (const SearchChunk* row : rows) {
    const float* frame = row->frames + static_cast<std::size_t>(t) * units;
    encoder.insert(encoder.end(), frame, frame + units);
    output.insert(output.end(), row->state->output.begin(), row->state->output.end());
  }
  model.joiner(encoder.data(), output.data(), static_cast<int>(rows.size()), log_probs.data());

  Rows emitted;
  std::vector<std::int64_t> tokens;
  std::vector<float> predictor;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float* row = log_probs.data() + i * vocabulary;
    row[kBlank] -= blank_penalty_;
    const std::int64_t token = std::max_element(row, row + vocabulary) - row;
    SearchState& state = *rows[i]->state;
    Candidate& only = state.candidates[0];
    only.score += static_cast<double>(row[token]);
    if (token == kBlank) continue;
    only.trace = state.traces.extend(only.trace, token, state.frames + t, row[token]);
    emitted.push_back(rows[i]);
    tokens.push_back(token);
    predictor.insert(predictor.end(), state.predictor.begin(), state.predictor.end());
  }
  if (emitted.empty()) return emitted;

  output.resize(emitted.size() * units);
  model.predictor_step(tokens.data(), static_cast<int>(tokens.size()), predictor.data(), output.data());
  for (std::size_t i = 0; i < emitted.size(); ++i) {
    SearchState& state = *emitted[i]->state;
    std::copy_n(output.data() + i * units, units, state.output.data());
    std::copy_n(predictor.data() + i * state.predictor.size(), state.predictor.size(), state.predictor.data());
  }
  return emitted;
}

}  // namespace sottovoce
