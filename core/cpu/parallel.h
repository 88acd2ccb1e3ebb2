// Loops over the one OpenMP pool, which oneDNN and OpenBLAS share. Results never depend on the
// number of threads: each index writes its own output, and sums go through parallel_chunks.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>

namespace sg {

int num_threads();
void set_num_threads(int n);

// f(begin, end) over [0, n), split evenly among threads; no thread gets fewer than `grain` indices.
template <class F>
void parallel_for(int64_t n, int64_t grain, const F& f) {
  if (n <= 0) return;
  const int64_t parts = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, num_threads());
  if (parts == 1) return f(int64_t{0}, n);
  std::exception_ptr error;  // one that left the loop's own thread would end the program
#pragma omp parallel for schedule(static, 1) num_threads(int(parts))
  for (int64_t p = 0; p < parts; ++p) try {
      f(n * p / parts, n * (p + 1) / parts);
    } catch (...) {
#pragma omp critical(sg_parallel_for)
      error = std::current_exception();
    }
  if (error) std::rethrow_exception(error);
}

// The number of partial sums that parallel_chunks(n, ...) makes: a function of n alone.
constexpr int kMaxChunks = 64;
inline int chunks_of(int64_t n, int64_t grain) {
  return int(std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, kMaxChunks));
}

// f(chunk, begin, end): [0, n) in chunks_of(n, grain) chunks, each done by one thread, so that
// partial sums kept per chunk and added in order of chunk are the same for any number of threads.
template <class F>
void parallel_chunks(int64_t n, int64_t grain, const F& f) {
  const int chunks = chunks_of(n, grain);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) f(int(c), n * c / chunks, n * (c + 1) / chunks);
  });
}

}  // namespace sg
