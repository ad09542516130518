// A backend that fails or holds requests on demand, and notes what it is asked for; the rest goes to a real one.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "devices/nvme/backend.h"

namespace gangway::nvme::test {

struct Faults {
  std::atomic<int> error{0};         // fail new requests with this errno
  std::atomic<int> sync_error{0};    // fail new flushes with this one
  std::atomic<bool> hold{false};     // keep new requests back
  std::atomic<std::size_t> held{0};  // how many are kept

  // What requests began with, and on which image, in order.
  struct Asked {
    ImageRequest::Step step = ImageRequest::Step::Sync;
    std::uint32_t file = 0;
    friend bool operator==(const Asked&, const Asked&) = default;
  };
  void note(const ImageRequest& request) {
    const std::scoped_lock lock(mutex_);
    asked_.push_back({.step = request.step(), .file = request.file()});
  }
  [[nodiscard]] std::vector<Asked> take_asked() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(asked_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Asked> asked_;
};

class FaultBackend final : public Backend {
 public:
  FaultBackend(std::unique_ptr<Backend> inner, std::shared_ptr<Faults> faults)
      : Backend(Fd()), inner_(std::move(inner)), faults_(std::move(faults)) {}

  Result<void> enter_thread() override { return inner_->enter_thread(); }
  void start(ImageRequest& request) override {
    faults_->note(request);
    const int error =
        request.step() == ImageRequest::Step::Sync && faults_->sync_error != 0 ? faults_->sync_error : faults_->error;
    if (error != 0) {
      request.advance(-error);
      failed_.push_back(&request);
    } else if (faults_->hold) {
      held_.push_back(&request);
      faults_->held = held_.size();
    } else {
      inner_->start(request);
    }
  }
  void submit() override { inner_->submit(); }
  std::size_t collect(std::span<ImageRequest*> out) override {
    if (!faults_->hold && !held_.empty()) {
      for (ImageRequest* request : held_) inner_->start(*request);
      held_.clear();
      faults_->held = 0;
      inner_->submit();
    }
    std::size_t count = 0;
    for (; count < out.size() && !failed_.empty(); ++count) {
      out[count] = failed_.back();
      failed_.pop_back();
    }
    return count + inner_->collect(out.subspan(count));
  }
  void wait(std::optional<std::chrono::microseconds> timeout) override {
    if (!failed_.empty()) return;
    // Nobody wakes us when the hold ends.
    inner_->wait(held_.empty() ? timeout : std::chrono::microseconds(500));
  }
  void wake() override { inner_->wake(); }
  void watch(const Fd& event) override { inner_->watch(event); }
  [[nodiscard]] std::string_view name() const override { return "faults"; }

 private:
  std::unique_ptr<Backend> inner_;
  std::shared_ptr<Faults> faults_;
  std::vector<ImageRequest*> failed_;
  std::vector<ImageRequest*> held_;
};

// Options with a faulty backend; `wake` of the controller's thread is a register write away.
inline BackendFactory with_faults(std::shared_ptr<Faults> faults, BackendFactory make_inner = make_backend) {
  return [faults, make_inner](std::span<const int> files) -> Result<std::unique_ptr<Backend>> {
    auto inner = make_inner(files);
    if (!inner) return inner;
    return std::make_unique<FaultBackend>(std::move(*inner), faults);
  };
}

}  // namespace gangway::nvme::test
