#include "core/guards.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "core/backend.h"
#include "core/error.h"

namespace sg {
namespace {

std::byte pattern(size_t i) { return std::byte(0x5a + 37 * i); }

std::mutex& g_mutex = *new std::mutex;
std::string& g_damage = *new std::string;  // the first that was found and not thrown yet

std::byte* behind(void* block, size_t size) { return static_cast<std::byte*>(block) + size; }

}  // namespace

void Guards::add(void* block, size_t size) {
  if (bytes_ == 0) return;
  Backend& b = backend(device_.type);
  auto* const seen =
      on_host_ ? behind(block, size) : static_cast<std::byte*>(b.allocate_pinned(bytes_));
  check(seen, "{}: no pinned memory for the guard of a block", str(device_));
  for (size_t i = 0; i < bytes_; ++i) seen[i] = pattern(i);
  guards_[block] = {size, seen};
  if (!on_host_) b.copy(b.stream(device_), behind(block, size), seen, bytes_);
}

void Guards::look(void* block) {
  if (bytes_ == 0 || on_host_) return;
  Backend& b = backend(device_.type);
  const Guard& g = guards_.at(block);
  b.copy(b.stream(device_), g.seen, behind(block, g.size), bytes_);
}

void Guards::look_at_all() {
  if (bytes_ == 0 || on_host_) return;
  for (const auto& [block, guard] : guards_) look(block);
  Backend& b = backend(device_.type);
  b.synchronize(b.stream(device_));
}

void Guards::find_damage() {
  for (auto& [block, guard] : guards_) {
    size_t written = 0, first = bytes_;
    for (size_t i = bytes_; i-- > 0;)
      if (guard.seen[i] != pattern(i)) ++written, first = i;
    if (!written) continue;
    {
      const std::lock_guard lock(g_mutex);
      if (g_damage.empty())
        g_damage = fmt::format(
            "{}: {} of the {} bytes behind a block of {} bytes were written, the first at offset "
            "{}: an operation went beyond its tensor; to have it named, run again with --eager and "
            "under compute-sanitizer or AddressSanitizer",
            str(device_), written, bytes_, guard.size, guard.size + first);
    }
    for (size_t i = 0; i < bytes_; ++i) guard.seen[i] = pattern(i);
    if (on_host_) continue;
    Backend& b = backend(device_.type);
    b.copy(b.stream(device_), behind(block, guard.size), guard.seen, bytes_);
  }
}

void Guards::remove(void* block) {
  const auto it = guards_.find(block);
  if (it == guards_.end()) return;
  if (!on_host_) backend(device_.type).release_pinned(it->second.seen);
  guards_.erase(it);
}

void Guards::throw_damage() {
  const std::lock_guard lock(g_mutex);
  if (!g_damage.empty()) fail(ExitCode::failure, "{}", std::exchange(g_damage, {}));
}

}  // namespace sg
