// The guest's CPUs: threads that run programs step by step, and stop between steps.
//
// A program keeps all its state in guest RAM, so between two steps it can be moved. pause() returns when every CPU
// stands between steps; nothing is drained for it, what the programs have in flight stays in flight.
//
// Thread-safety: pause, resume, kick and wait_finished from any thread; start once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gangway::guest {

class CpuProgram {
 public:
  virtual ~CpuProgram() = default;
  enum class Step {
    Worked,
    Idle,      // nothing to do just now: waits a little
    Finished,  // nothing to do until kicked
  };
  virtual Step step() = 0;
};

class Cpus {
 public:
  Cpus() = default;
  ~Cpus();  // stops between steps
  Cpus(const Cpus&) = delete;
  Cpus& operator=(const Cpus&) = delete;

  // One CPU a program, paused. The programs outlive the CPUs.
  void start(const std::vector<CpuProgram*>& programs);

  void pause();
  void resume();
  [[nodiscard]] bool paused() const;

  // Programs that finished are asked again.
  void kick();
  // Until every program has finished since the last kick. Not while paused, or nobody would.
  void wait_finished();

  [[nodiscard]] std::size_t count() const { return threads_.size(); }

 private:
  enum class Request { Run, Pause, Stop };
  void run(CpuProgram& program);
  // Between steps, until there is one to do. False: the CPU ends.
  bool stand();
  // The same for a program that said so in a step that began after `kicks` kicks.
  bool stand_finished(std::uint64_t kicks);

  std::atomic<Request> request_{Request::Pause};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t standing_ = 0;  // CPUs between steps
  std::size_t finished_ = 0;  // of those, whose programs finished since the last kick
  std::atomic<std::uint64_t> kicks_{0};
  std::vector<std::thread> threads_;
};

}  // namespace gangway::guest
