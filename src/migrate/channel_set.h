// The connections of one migration, and the means to end them all at once from another thread.
//
// Thread-safety: interrupt() and interrupt_receiving() from any thread; the rest from one. References stay valid.
#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "migrate/channel.h"
#include "migrate/source.h"

namespace gangway::migrate {

class ChannelSet {
 public:
  ChannelSet() { channels_.reserve(kMaxChannels); }

  // At most kMaxChannels.
  Channel& add(Channel channel) {
    const std::scoped_lock lock(mutex_);
    channels_.push_back(std::move(channel));
    if (interrupted_) channels_.back().interrupt();
    return channels_.back();
  }
  void drop_last() {
    const std::scoped_lock lock(mutex_);
    channels_.pop_back();
  }

  // The one that carries everything but the others' memory.
  [[nodiscard]] Channel& control() { return channels_.front(); }
  [[nodiscard]] std::span<Channel> all() { return channels_; }
  [[nodiscard]] bool empty() const { return channels_.empty(); }

  void interrupt() {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
    for (Channel& channel : channels_) channel.interrupt();
  }
  // What is said on the control channel still goes out, and what had come there is still received.
  void interrupt_receiving() {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
    for (Channel& channel : std::span(channels_).subspan(std::min<std::size_t>(1, channels_.size()))) {
      channel.interrupt();
    }
    if (!channels_.empty()) channels_.front().interrupt_receiving();
  }

 private:
  std::mutex mutex_;
  std::vector<Channel> channels_;
  bool interrupted_ = false;
};

}  // namespace gangway::migrate
