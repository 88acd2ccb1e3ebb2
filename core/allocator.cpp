#include "core/allocator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace sg {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMaxGuard = size_t{1} << 20;
constexpr size_t kMostStep = size_t{256} << 10;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// In steps of 512 bytes, or of 1/64 to 1/32 of the size, but at most 256 KiB. Most maps are 49
// times a power of two, and waste nothing; nor do the flat buffers of parameters.
size_t capacity_for(size_t bytes) {
  size_t step = 512;
  while (step * 64 < bytes && step < kMostStep) step *= 2;
  return round_up(std::max<size_t>(bytes, 1), step);
}

thread_local Device g_scope_device;
thread_local Allocator* g_scope = nullptr;

// The allocators of all devices, made when first asked for. Never destroyed: tensors with static
// lifetime may outlive any order of destruction.
struct Shared {
  struct Key {
    Device device;
    Allocator::Kind kind;
    std::unique_ptr<Allocator> allocator;
  };
  std::mutex mutex;
  std::vector<Key> all;

  static Shared& get() {
    static Shared& shared = *new Shared;
    return shared;
  }
};

Allocator& shared(Device device, Allocator::Kind kind) {
  Shared& s = Shared::get();
  const std::lock_guard lock(s.mutex);
  for (Shared::Key& k : s.all)
    if (k.device == device && k.kind == kind) return *k.allocator;
  require(device);
  s.all.push_back({device, kind, std::make_unique<Allocator>(device, kind)});
  if (const auto guard = Allocator::guard_of_environment())
    spdlog::info("{}{}: SG_ALLOCATOR_GUARD: blocks of exact sizes, {} bytes of guard behind each",
                 str(device), kind == Allocator::Kind::pinned ? " (pinned memory)" : "", *guard);
  return *s.all.back().allocator;
}

}  // namespace

Allocator::Allocator(Device device, Kind kind, std::optional<size_t> guard)
    : device_(device), kind_(kind) {
  const bool on_host = kind == Kind::pinned || device.type == DeviceType::cpu;
  if (guard) guards_.emplace(device, on_host, *guard);
}

Allocator::~Allocator() { release_cached(); }

std::optional<size_t> Allocator::guard_of_environment() {
  const char* const text = std::getenv("SG_ALLOCATOR_GUARD");
  if (!text) return {};
  size_t bytes = 0;
  const char* const end = text + std::strlen(text);
  const auto [read, error] = std::from_chars(text, end, bytes);
  if (error != std::errc() || read != end || bytes > kMaxGuard)
    fail(ExitCode::usage, "SG_ALLOCATOR_GUARD: expected a number of bytes up to {}, found '{}'",
         kMaxGuard, text);
  return bytes;
}

void* Allocator::ask(size_t bytes) const {
  Backend& b = backend(device_.type);
  return kind_ == Kind::pinned ? b.allocate_pinned(bytes) : b.allocate(device_, bytes);
}

void Allocator::give_back(void* data, size_t bytes) const {
  Backend& b = backend(device_.type);
  if (kind_ == Kind::pinned)
    b.release_pinned(data);
  else
    b.release(device_, data, bytes);
}

Allocator::Block Allocator::allocate(size_t bytes) {
  const size_t want = guards_ ? std::max<size_t>(bytes, 1) : capacity_for(bytes);
  const size_t most = guards_ ? want : splits() ? SIZE_MAX : want + want / 4;  // to take it from
  const std::lock_guard lock(mutex_);
  if (guards_) guards_->find_damage(), Guards::throw_damage();
  Block block;
  if (auto it = free_.lower_bound(want); it != free_.end() && it->first <= most) {  // best fit
    block = {it->second, it->first};
    if (splits()) free_at_.erase(static_cast<std::byte*>(block.data));
    free_.erase(it);
  } else {
    const size_t segment = splits() ? round_up(want, kHugePage) : want;
    const auto ask_for = [&](size_t capacity) {
      block = {ask(capacity + guard_bytes()), capacity};
      return block.data != nullptr;
    };
    const auto found = [&] { return ask_for(segment) || (segment > want && ask_for(want)); };
    if (!found() && !capturing_) {  // free what is cached, here and by the device; once more
      if (!kept_) release_cached_locked();
      const Kind kind = kind_ == Kind::pinned ? Kind::pinned : Kind::device;
      if (Allocator& common = shared(device_, kind); &common != this) common.release_cached();
      found();
    }
    if (!block.data) out_of_memory(want);
    if (guards_) guards_->add(block.data, want);
    if (splits()) segments_.emplace(static_cast<std::byte*>(block.data), block.capacity);
    ++stats_.system_allocations;
    stats_.reserved += block.capacity + guard_bytes();
  }
  if (splits() && block.capacity > want) {
    add_free(static_cast<std::byte*>(block.data) + want, block.capacity - want);
    block.capacity = want;
  }
  stats_.in_use += block.capacity;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void Allocator::out_of_memory(size_t asked) const {
  const bool pinned = kind_ == Kind::pinned;
  const size_t free = backend(pinned ? DeviceType::cpu : device_.type).free_memory(device_);
  OutOfMemory e(ExitCode::failure,
                fmt::format("{}{}: out of memory: {} bytes asked, {} bytes free, {} bytes in use "
                            "by tensors; use a smaller batch",
                            str(device_), pinned ? " (pinned memory of the host)" : "", asked, free,
                            stats_.in_use));
  e.asked = asked, e.free = free, e.in_use = stats_.in_use;
  throw e;
}

void Allocator::release(Block block) {
  const std::lock_guard lock(mutex_);
  stats_.in_use -= block.capacity;
  if (splits())
    add_free(static_cast<std::byte*>(block.data), block.capacity);
  else
    free_.emplace(block.capacity, block.data);
  try {
    if (guards_) guards_->look(block.data);
  } catch (const Error&) {  // of a device that failed: reported where it was met
  }
}

void Allocator::add_free(std::byte* data, size_t bytes) {
  const auto after = free_at_.find(data + bytes);
  if (after != free_at_.end() && !segments_.contains(after->first)) {
    const size_t more = after->second;
    remove_free(data + bytes, more);
    bytes += more;
  }
  const auto next = free_at_.lower_bound(data);
  if (next != free_at_.begin() && !segments_.contains(data)) {
    const auto [before, size] = *std::prev(next);
    if (before + size == data) {
      remove_free(before, size);
      data = before, bytes += size;
    }
  }
  free_at_.emplace(data, bytes);
  free_.emplace(bytes, data);
}

void Allocator::remove_free(std::byte* data, size_t bytes) {
  free_at_.erase(data);
  const auto [begin, end] = free_.equal_range(bytes);
  free_.erase(std::find_if(begin, end, [&](const auto& f) { return f.second == data; }));
}

void Allocator::release_cached() {
  const std::lock_guard lock(mutex_);
  release_cached_locked();
}

void Allocator::set_capturing(bool on) {
  const std::lock_guard lock(mutex_);
  capturing_ = on, kept_ = true;
}

void Allocator::release_cached_locked() {
  try {
    if (guards_ && !free_.empty()) guards_->look_at_all(), guards_->find_damage();
  } catch (const Error&) {  // of a device that failed: reported where it was met
  }
  for (auto it = free_.begin(); it != free_.end();) {
    const auto [capacity, data] = *it;
    std::byte* const begin = static_cast<std::byte*>(data);
    const auto segment = segments_.find(begin);
    if (splits() && (segment == segments_.end() || segment->second != capacity)) {
      ++it;  // the rest of the segment is in use
      continue;
    }
    if (splits()) segments_.erase(segment), free_at_.erase(begin);
    if (guards_) guards_->remove(data);
    give_back(data, capacity + guard_bytes());
    stats_.reserved -= capacity + guard_bytes();
    it = free_.erase(it);
  }
}

void Allocator::check_guards() {
  if (!guards_) return;
  const std::lock_guard lock(mutex_);
  guards_->find_damage();
  Guards::throw_damage();
}

void Allocator::check_all_guards() {
  Shared& s = Shared::get();
  const std::lock_guard lock(s.mutex);
  for (const Shared::Key& k : s.all) {
    if (!k.allocator->guards_) continue;
    const std::lock_guard of_allocator(k.allocator->mutex_);
    k.allocator->guards_->look_at_all();
    k.allocator->guards_->find_damage();
  }
  Guards::throw_damage();
}

AllocatorStats Allocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak = stats_.in_use;
}

Allocator& Allocator::of(Device device) {
  if (g_scope && g_scope_device == device) return *g_scope;
  if (device.type == DeviceType::cpu) {  // the common case, without a lock
    static Allocator& cpu = shared({}, Kind::device);
    return cpu;
  }
  return shared(device, Kind::device);
}

Allocator& Allocator::pinned(Device device) { return shared(device, Kind::pinned); }

AllocatorScope::AllocatorScope(Device device, Allocator& allocator)
    : device_before_(std::exchange(g_scope_device, device)),
      before_(std::exchange(g_scope, &allocator)) {}

AllocatorScope::~AllocatorScope() { g_scope_device = device_before_, g_scope = before_; }

}  // namespace sg
