// One part of the library at a time, for tests that compare it with Python: arguments and standard input in, raw bytes
// or lines out.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "decoding/search.hpp"
#include "decoding/tokenizer.hpp"
#include "decoding/words.hpp"
#include "file/architecture.hpp"
#include "file/crc32.hpp"
#include "file/model_file.hpp"
#include "frontend/fbank.hpp"
#include "frontend/resample.hpp"

namespace {

using namespace sottovoce;
using Arguments = std::vector<std::string>;

std::vector<float> read_floats() {
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

void write_floats(const std::vector<float>& values) {
  if (!values.empty()) std::fwrite(values.data(), sizeof(float), values.size(), stdout);
}

template <class Take>
void in_chunks(const std::vector<float>& values, std::size_t chunk, const Take& take) {
  for (std::size_t at = 0; at < values.size(); at += chunk) {
    take(std::span(values).subspan(at, std::min(chunk, values.size() - at)));
  }
}

std::uint32_t checksum(const std::vector<float>& values) {
  return crc32({reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float)});
}

// file PATH: each matrix and float array with the CRC-32 of its float32 values.
void show_file(const Arguments& arguments) {
  const ModelFile file(arguments.at(0));
  for (const auto& [name, matrix] : file.matrices()) {
    std::printf("%s %08x\n", name.c_str(), checksum(file.floats(name, matrix.shape)));
  }
  for (const auto& [name, array] : file.arrays()) {
    if (array->dtype != Dtype::f16 && array->dtype != Dtype::f32) continue;
    std::printf("%s %08x\n", name.c_str(), checksum(file.floats(name, array->shape)));
  }
  read_architecture(file.architecture());
  read_input(file.input());
}

// resample FROM TO CHUNK
void resample(const Arguments& arguments) {
  LinearResampler resampler(std::stoi(arguments.at(0)), std::stoi(arguments.at(1)));
  in_chunks(read_floats(), std::stoul(arguments.at(2)),
            [&](std::span<const float> chunk) { write_floats(resampler.accept(chunk)); });
  write_floats(resampler.accept({}, true));
}

// fbank SETTINGS RATE CHUNK
void fbank(const Arguments& arguments) {
  StreamingFbank stream(read_settings(parse_object(arguments.at(0), "settings")));
  in_chunks(read_floats(), std::stoul(arguments.at(2)), [&](std::span<const float> chunk) {
    stream.accept_waveform(std::stoi(arguments.at(1)), chunk);
    write_floats(stream.take(stream.frames_ready()));
  });
  stream.input_finished();
  write_floats(stream.take(stream.frames_ready()));
}

// detokenize PATH: a line of ids in, a line of text out.
void detokenize(const Arguments& arguments) {
  std::ifstream file(arguments.at(0), std::ios::binary);
  const std::vector<std::uint8_t> model{std::istreambuf_iterator<char>(file), {}};
  const Tokenizer tokenizer(model);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    const std::vector<std::int64_t> ids{std::istream_iterator<std::int64_t>(words), {}};
    std::printf("%s\n", tokenizer.decode(ids).c_str());
  }
}

// words PATH: a line of ids in, one every frame of 0.04 s, the nth with log-probability -n / 8; a line out for each.
void words(const Arguments& arguments) {
  std::ifstream file(arguments.at(0), std::ios::binary);
  const std::vector<std::uint8_t> model{std::istreambuf_iterator<char>(file), {}};
  const Tokenizer tokenizer(model);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream ids(line);
    Hypothesis hypothesis;
    hypothesis.tokens = {std::istream_iterator<std::int64_t>(ids), {}};
    for (std::size_t i = 0; i < hypothesis.tokens.size(); ++i) {
      hypothesis.times.push_back(static_cast<std::int64_t>(i));
      hypothesis.log_probs.push_back(-static_cast<float>(i) / 8);
    }
    for (const Word& word : words_of(hypothesis, tokenizer, 0.04)) {
      std::printf("%s\t%a\t%a\t%a\t", word.text.c_str(), word.start, word.end, word.confidence);
    }
    std::printf("\n");
  }
}

// A predictor whose state counts modulo 64, and a joiner that looks log-probabilities up: exact in float32.
class TableModel : public Transducer {
 public:
  static constexpr int kStates = 64;

  TableModel(std::vector<float> table, int vocabulary) : table_(std::move(table)), vocabulary_(vocabulary) {}

  int vocabulary() const override { return vocabulary_; }
  int joiner_units() const override { return 1; }
  std::size_t predictor_floats() const override { return 1; }

  void predictor_step(const std::int64_t* tokens, int n, float* state, float* output) override {
    for (int i = 0; i < n; ++i) {
      state[i] = std::fmod(static_cast<float>(7 * (tokens[i] + 1)) + 3 * state[i] + 1, float{kStates});
      output[i] = state[i];
    }
  }

  void joiner(const float* encoder, const float* predictor, int n, float* log_probs) override {
    for (int i = 0; i < n; ++i) {
      const int row = static_cast<int>(encoder[i] + predictor[i]) % kStates;
      std::copy_n(table_.data() + row * vocabulary_, vocabulary_, log_probs + i * vocabulary_);
    }
  }

 private:
  std::vector<float> table_;
  int vocabulary_;
};

// A hotword as SCORE:TOKEN:TOKEN...
Phrase parse_phrase(const std::string& text) {
  std::istringstream parts(text);
  std::string part;
  std::getline(parts, part, ':');
  Phrase phrase{{}, std::stod(part)};
  while (std::getline(parts, part, ':')) phrase.tokens.push_back(std::stoll(part));
  return phrase;
}

// search METHOD BEAM MAX_SYMBOLS BLANK_PENALTY VOCABULARY CHUNK [HOTWORD ...]: table (64, V), then frames, on standard
// input.
void search(const Arguments& arguments) {
  const auto method = arguments.at(0) == "beam" ? Method::beam : Method::greedy;
  const auto search =
      make_search({method, std::stoi(arguments.at(1)), std::stof(arguments.at(3)), std::stoi(arguments.at(2))});
  const int vocabulary = std::stoi(arguments.at(4));
  std::vector<float> table = read_floats();
  const auto start = table.begin() + TableModel::kStates * vocabulary;
  const std::vector<float> frames(start, table.end());
  table.erase(start, table.end());
  TableModel model(table, vocabulary);
  std::vector<Phrase> hotwords;
  for (std::size_t i = 6; i < arguments.size(); ++i) hotwords.push_back(parse_phrase(arguments[i]));
  SearchState state = search->start(model, hotwords);
  in_chunks(frames, std::stoul(arguments.at(5)), [&](std::span<const float> chunk) {
    const SearchChunk one{&state, chunk.data(), static_cast<int>(chunk.size())};
    search->advance(model, {&one, 1});
  });
  for (const Hypothesis& found : search->results(state)) {
    std::printf("%a", found.score);
    for (std::size_t i = 0; i < found.tokens.size(); ++i) {
      std::printf(" %lld:%lld:%a", static_cast<long long>(found.tokens[i]), static_cast<long long>(found.times[i]),
                  static_cast<double>(found.log_probs[i]));
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  const Arguments arguments(argv + std::min(argc, 2), argv + argc);
  try {
    if (command == "file") show_file(arguments);
    else if (command == "resample") resample(arguments);
    else if (command == "fbank") fbank(arguments);
    else if (command == "detokenize") detokenize(arguments);
    else if (command == "search") search(arguments);
    else if (command == "words") words(arguments);
    else throw Error("no such command: " + command);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
