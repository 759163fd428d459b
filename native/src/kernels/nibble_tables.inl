// Lookup tables of Layout::nibble, for the decoders of nibble_decoders.inl.

void make_tables(int stored_bits, const std::uint8_t* levels, std::uint8_t* tables) {
  switch (stored_bits) {
    case 1:
      index_table(levels, 16, {0}, tables);
      index_table(levels, 16, {1}, tables + 16);
      index_table(levels, 16, {2}, tables + 32);
      index_table(levels, 16, {3}, tables + 48);
      break;
    case 2:
      index_table(levels, 16, {0, 1}, tables);
      index_table(levels, 16, {2, 3}, tables + 16);
      break;
    case 3:
      index_table(levels, 16, {0, 1, 2}, tables);
      index_table(levels, 16, {1, 2, 3}, tables + 16);
      index_table(levels, 16, {3, 0, 1}, tables + 32);
      break;
    case 4: index_table(levels, 16, {0, 1, 2, 3}, tables); break;
    case 5: index_table(levels, 32, {0, 1, 2, 3, 4}, tables); break;
    case 6: index_table(levels, 64, {0, 1, 2, 3, 4, 5}, tables); break;
    default: break;  // tiles hold the levels themselves
  }
}
