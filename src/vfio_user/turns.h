// Who speaks on a socket that carries both directions, for a client that reads one message at a time: while it waits
// for a reply it takes nothing else, and of DMA messages it answers one before it looks at the next.
//
// So a transfer waits until no command is under way, and transfers follow each other. A transfer that a command itself
// makes has its turn. A command that waits for the device's thread, which waits here, would wait for ever: after a
// while a transfer goes ahead, and a client that cannot take it is lost instead of the device.
//
// Thread-safety: commands from one thread, transfers from any.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace gangway::vfio_user {

class Turns {
 public:
  // From the arrival of a command until it is answered. Null: no turns are kept.
  class Command {
   public:
    explicit Command(Turns* turns) : turns_(turns) {
      if (turns_ != nullptr) turns_->begin_command();
    }
    ~Command() {
      if (turns_ != nullptr) turns_->end_command();
    }
    Command(const Command&) = delete;
    Command& operator=(const Command&) = delete;

   private:
    Turns* turns_;
  };

  // One read or write of memory, in however many messages. Null as above.
  class Transfer {
   public:
    explicit Transfer(Turns* turns) {
      if (turns == nullptr) return;
      turns->await_silence();
      one_.emplace(turns->transfers_);
    }

   private:
    std::optional<std::unique_lock<std::mutex>> one_;
  };

 private:
  static constexpr std::chrono::milliseconds kPatience{200};

  void begin_command() {
    const std::scoped_lock lock(mutex_);
    commanding_ = std::this_thread::get_id();
  }
  void end_command() {
    {
      const std::scoped_lock lock(mutex_);
      commanding_ = {};
    }
    silent_.notify_all();
  }
  void await_silence() {
    std::unique_lock lock(mutex_);
    if (commanding_ == std::this_thread::get_id()) return;
    silent_.wait_for(lock, kPatience, [this] { return commanding_ == std::thread::id(); });
  }

  std::mutex mutex_;
  std::condition_variable silent_;
  std::thread::id commanding_;  // the connection's thread while it answers
  std::mutex transfers_;
};

}  // namespace gangway::vfio_user
