#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/error.h"
#include "core/rng.h"

namespace sg::data {
namespace {

constexpr int kReplacements = 100;  // broken samples in a row before giving up

// Images of a step, over all ranks.
int64_t step_images(const LoaderConfig& c) {
  return int64_t{c.batch_size} * c.step_batches * c.ranks;
}

void check_config(const ImageSet& images, const LoaderConfig& c, const EpochOrder& order) {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
  };
  require(c.batch_size >= 1, "batch-size", "at least 1", c.batch_size);
  require(c.workers >= 0 && c.workers <= 1024, "workers", "0 to 1024", c.workers);
  require(c.prefetch >= 1, "prefetch", "at least 1", c.prefetch);
  require(c.ranks >= 1 && c.rank >= 0 && c.rank < c.ranks, "rank", "less than the ranks", c.rank);
  require(c.step_batches >= 1, "step-batches", "at least 1", c.step_batches);
  require(c.aug_repeats >= 0, "aug-repeats", "at least 0", c.aug_repeats);
  require(c.max_broken_share >= 0 && c.max_broken_share <= 1, "max-broken-share", "0 to 1",
          c.max_broken_share);
  if (c.training && images.size() < int64_t{c.batch_size} * c.ranks)
    fail(ExitCode::usage,
         "--batch-size: {}{} needs {} images a step, the training set has {}; use a smaller batch",
         c.batch_size, c.ranks > 1 ? fmt::format(" on each of {} ranks", c.ranks) : "",
         int64_t{c.batch_size} * c.ranks, images.size());
  if (const int64_t all = order.positions(); c.training && all < int64_t{c.batch_size} * c.ranks)
    fail(
        ExitCode::usage,
        "--aug-repeats: an epoch is a multiple of {} images, of {} it has {}, less than a batch of "
        "{}; use a smaller batch, or --aug-repeats 0",
        kSelectedRound, images.size(), all, int64_t{c.batch_size} * c.ranks);
}

size_t bytes_of_sample(const Tensor& batch) { return batch.bytes() / size_t(batch.dim(0)); }

// Where the sample of an item lies in a tensor of a batch.
std::byte* place_of(Tensor& batch, int64_t item) {
  return static_cast<std::byte*>(batch.raw()) + size_t(item) * bytes_of_sample(batch);
}

}  // namespace

Loader::Loader(std::shared_ptr<const SampleMaker> maker, LoaderConfig config)
    : maker_(std::move(maker)),
      images_(maker_->images()),
      config_(std::move(config)),
      order_(
          images_,
          {.shuffled = config_.training, .seed = config_.seed, .aug_repeats = config_.aug_repeats}),
      broken_(config_.max_broken_share, images_.size()),
      own_(maker_->worker(config_.training)) {
  check_config(images_, config_, order_);
  const int64_t b = config_.batch_size, all = order_.positions();
  if (config_.training)
    samples_ = all / step_images(config_) * config_.step_batches * b;
  else
    samples_ = all * (config_.rank + 1) / config_.ranks - all * config_.rank / config_.ranks;
  batches_ = (samples_ + b - 1) / b;
  // One more than is made ahead: the batch that the caller holds.
  slots_.resize(size_t(config_.prefetch) + 1);
  for (Slot& slot : slots_) allocate(slot);
  try {
    for (int i = 0; i < config_.workers; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& e) {
    stop();
    fail(ExitCode::failure, "workers: {} threads cannot be started: {}; use fewer", config_.workers,
         e.what());
  }
}

Loader::~Loader() { stop(); }

void Loader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Loader::allocate(Slot& slot) const {
  slot.tensors.clear();
  for (const SampleTensor& t : maker_->tensors()) {
    const Shape shape = t.of_batch(config_.batch_size);
    slot.tensors.push_back(config_.device.type == DeviceType::cpu
                               ? empty(shape, t.dtype)
                               : empty_pinned(shape, t.dtype, config_.device));
  }
}

void Loader::allocate_if_shared(Slot& slot) const {
  if (!std::ranges::all_of(slot.tensors, &Tensor::unshared)) allocate(slot);
}

int64_t Loader::items_of(int64_t batch) const {
  return std::min<int64_t>(config_.batch_size, samples_ - batch * config_.batch_size);
}

int64_t Loader::order_of(int64_t position) const {
  if (!config_.training) return order_.positions() * config_.rank / config_.ranks + position;
  const int64_t own = int64_t{config_.batch_size} * config_.step_batches;  // of a step
  return position / own * step_images(config_) + config_.rank * own + position % own;
}

void Loader::start_epoch(int64_t epoch, int64_t first_batch) {
  check(epoch >= 0 && first_batch >= 0 && first_batch <= batches_,
        "loader: epoch {} cannot start at batch {}; it has {}", epoch, first_batch, batches_);
  std::unique_lock lock(mutex_);
  end_ = position_;
  ready_.wait(lock, [&] { return active_ == 0; });
  epoch_ = epoch;
  if (!config_.training) broken_.start();
  order_.start(epoch);
  batch_ = first_batch;
  position_ = first_batch * config_.batch_size;
  end_ = samples_;
  for (Slot& slot : slots_) {
    slot.number = -1;
    allocate_if_shared(slot);
  }
  work_.notify_all();
}

void Loader::work() {
  const std::unique_ptr<SampleMaker::Worker> worker = maker_->worker(config_.training);
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] {
      return stopping_ ||
             (position_ < end_ && position_ / config_.batch_size < batch_ + config_.prefetch);
    });
    if (stopping_) return;
    const int64_t position = position_;
    Slot& slot = claim(position);
    lock.unlock();
    make(slot, position, *worker);
    lock.lock();
    --active_;
    if (--slot.pending == 0 || active_ == 0) ready_.notify_all();
  }
}

// Takes the item at position_; the first of a batch makes its slot ready. The mutex is held.
Loader::Slot& Loader::claim(int64_t position) {
  ++position_, ++active_;
  const int64_t number = position / config_.batch_size;
  Slot& slot = slot_of(number);
  if (slot.number != number) {
    slot.number = number;
    slot.pending = items_of(number);
    slot.indices.assign(size_t(slot.pending), -1);
    slot.broken.clear();
    slot.error = nullptr;
  }
  return slot;
}

void Loader::make(Slot& slot, int64_t position, SampleMaker::Worker& worker) {
  const int64_t item = position % config_.batch_size;
  try {
    const int64_t i = order_of(position);
    if (const int64_t next = order_.entering(i); next >= 0) images_.prefetch(next);
    const auto [sample, copy] = order_.at(i);
    if (try_sample(slot, item, {sample, copy}, worker) || !config_.training) return;
    Random random(config_.seed, Purpose::replacement, uint64_t(epoch_), uint64_t(sample));
    for (int tries = 0; tries < kReplacements; ++tries)
      if (try_sample(slot, item, {random.integer(0, images_.size() - 1), copy}, worker)) return;
    const std::lock_guard lock(mutex_);
    const auto why = std::ranges::find(slot.broken, item, &Broken::item);
    fail(ExitCode::data, "{}; nor can {} others be read that were chosen in its place",
         why->message, kReplacements);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (slot.error && slot.error_item < item) return;
    slot.error = std::current_exception(), slot.error_item = item;
  }
}

// False where the sample is broken.
bool Loader::try_sample(Slot& slot, int64_t item, const EpochOrder::Item& drawn,
                        SampleMaker::Worker& worker) {
  const auto [sample, copy] = drawn;
  std::vector<std::byte*> out;
  for (Tensor& t : slot.tensors) out.push_back(place_of(t, item));
  try {
    worker.make({config_.seed, epoch_, sample, copy}, out);
  } catch (const UnusableData&) {
    throw;
  } catch (const Error& e) {
    if (e.code() != ExitCode::data) throw;
    const std::lock_guard lock(mutex_);
    slot.broken.push_back({item, sample, e.what()});
    return false;
  } catch (const std::bad_alloc&) {
    const std::lock_guard lock(mutex_);
    slot.broken.push_back({item, sample,
                           fmt::format("{}: no memory to decode it; use fewer workers, or a "
                                       "smaller image",
                                       images_.name(sample))});
    return false;
  }
  slot.indices[size_t(item)] = sample;
  return true;
}

bool Loader::next(Batch& batch) {
  const auto start = std::chrono::steady_clock::now();
  check(epoch_ >= 0, "loader: next() before start_epoch()");
  bool found = false;
  while (!found && batch_ < batches_) {
    Slot& slot = slot_of(batch_);
    wait_for(slot, batch_);
    if (slot.error) std::rethrow_exception(slot.error);
    report_broken(slot);
    found = hand_out(slot, batch);
    // The slot handed out before this one is filled next.
    if (batch_ > 0) allocate_if_shared(slot_of(batch_ - 1));
    {
      const std::lock_guard lock(mutex_);
      ++batch_;
    }
    work_.notify_all();
  }
  batch.waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return found;
}

void Loader::wait_for(Slot& slot, int64_t batch) {
  std::unique_lock lock(mutex_);
  const auto complete = [&] { return slot.number == batch && slot.pending == 0; };
  if (!threads_.empty()) return ready_.wait(lock, complete);
  while (!complete()) {
    const int64_t position = position_;
    claim(position);
    lock.unlock();
    make(slot, position, *own_);
    lock.lock();
    --active_, --slot.pending;
  }
}

// Here and not in the workers, so that log and end do not depend on who was faster.
void Loader::report_broken(Slot& slot) {
  std::stable_sort(slot.broken.begin(), slot.broken.end(),
                   [](const Broken& a, const Broken& b) { return a.item < b.item; });
  for (const Broken& b : slot.broken) broken_.add(b.sample, b.message);
  broken_.check();
}

// False where no item of the batch is left.
bool Loader::hand_out(Slot& slot, Batch& batch) {
  size_t kept = 0;
  for (size_t i = 0; i < slot.indices.size(); ++i) {
    if (slot.indices[i] < 0) continue;
    if (kept != i) {
      for (Tensor& t : slot.tensors)
        std::memcpy(place_of(t, int64_t(kept)), place_of(t, int64_t(i)), bytes_of_sample(t));
      slot.indices[kept] = slot.indices[i];
    }
    ++kept;
  }
  slot.indices.resize(kept);
  batch.tensors.clear();
  for (const Tensor& t : slot.tensors) batch.tensors.push_back(t.slice(0, int64_t(kept)));
  batch.indices = slot.indices;
  batch.number = slot.number;
  return kept > 0;
}

}  // namespace sg::data
