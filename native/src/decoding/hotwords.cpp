#include "decoding/hotwords.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <string>

#include "decoding/transducer.hpp"
#include "error.hpp"

namespace sottovoce {

ContextGraph::ContextGraph(std::span<const Phrase> phrases, int vocabulary)
    : nodes_(1), root_gains_(static_cast<std::size_t>(vocabulary)) {
  for (const Phrase& phrase : phrases) insert(phrase, vocabulary);
  link();
  for (Node& node : nodes_) find_gains(node);
  for (const auto& [token, gain] : nodes_[0].gains) root_gains_[token] = gain;
}

void ContextGraph::insert(const Phrase& phrase, int vocabulary) {
  if (!(std::isfinite(phrase.score) && phrase.score > 0)) {
    throw Error("hotword: expected a positive number of nats a token");
  }
  if (phrase.tokens.empty()) throw Error("hotword: expected token ids, found none");
  std::size_t at = 0;
  for (const std::int64_t token : phrase.tokens) {
    if (token <= kBlank || token >= vocabulary) {
      throw Error("hotword: expected token ids of 1 to " + std::to_string(vocabulary - 1) + ", found " +
                  std::to_string(token));
    }
    const auto [child, is_new] = nodes_[at].children.try_emplace(token, static_cast<std::int32_t>(nodes_.size()));
    at = index(child->second);
    if (is_new) nodes_.emplace_back();
    nodes_[at].score = std::max(nodes_[at].score, phrase.score);
  }
  nodes_[at].end = true;
}

// Breadth first: what a node fails to is shorter, so it is done before.
void ContextGraph::link() {
  for (std::deque<std::int32_t> queue{0}; !queue.empty(); queue.pop_front()) {
    const std::int32_t state = queue.front();
    const Node& node = nodes_[index(state)];
    for (const auto& [token, to] : node.children) {
      Node& child = nodes_[index(to)];
      if (state != 0) child.fail = step(node.fail, token);
      child.worth = node.worth + child.score;
      child.ended = child.end ? child.worth : node.ended;
      child.won = nodes_[index(child.fail)].won + (child.end ? child.worth : 0.0);
      child.credit = child.worth - child.ended;
      queue.push_back(to);
    }
  }
}

void ContextGraph::find_gains(Node& node) const {
  std::map<std::int64_t, std::int32_t> found = node.children;
  for (std::int32_t state = node.fail; state != 0; state = nodes_[index(state)].fail) {
    found.insert(nodes_[index(state)].children.begin(), nodes_[index(state)].children.end());
  }
  for (const auto& [token, to] : found) {
    const Node& target = nodes_[index(to)];
    node.gains.emplace_back(static_cast<std::size_t>(token), target.credit + target.won);
  }
}

void ContextGraph::add_bonuses(std::int32_t state, double* totals) const {
  const Node& node = nodes_[index(state)];
  std::vector<double> gains = root_gains_;
  for (const auto& [token, gain] : node.gains) gains[token] = gain;
  for (std::size_t token = kBlank + 1; token < gains.size(); ++token) totals[token] += gains[token] - node.credit;
}

std::int32_t ContextGraph::step(std::int32_t state, std::int64_t token) const {
  for (;; state = nodes_[index(state)].fail) {
    const auto found = nodes_[index(state)].children.find(token);
    if (found != nodes_[index(state)].children.end()) return found->second;
    if (state == 0) return 0;
  }
}

}  // namespace sottovoce
