// Where the words of one transcript are not those of another.

// Pairs [word, reference word] of a best alignment; null stands for a missing one.
export function align(words, reference) {
  const width = reference.length + 1;
  const cost = new Uint32Array((words.length + 1) * width);
  for (let i = 0; i <= words.length; i++) {
    for (let j = 0; j < width; j++) {
      const at = i * width + j;
      if (!i || !j) { cost[at] = i + j; continue; }
      const same = words[i - 1] === reference[j - 1] ? 0 : 1;
      cost[at] = Math.min(cost[at - width - 1] + same, cost[at - width] + 1, cost[at - 1] + 1);
    }
  }
  const pairs = [];
  for (let i = words.length, j = reference.length; i || j;) {
    const at = i * width + j;
    const same = i && j && words[i - 1] === reference[j - 1] ? 0 : 1;
    if (i && j && cost[at] === cost[at - width - 1] + same) pairs.push([words[--i], reference[--j]]);
    else if (i && cost[at] === cost[at - width] + 1) pairs.push([words[--i], null]);
    else pairs.push([null, reference[--j]]);
  }
  return pairs.reverse();
}
