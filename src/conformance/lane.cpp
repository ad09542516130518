#include "conformance/lane.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace gangway::conformance {

struct Lane::Worker {
  std::mutex mutex;
  std::condition_variable changed;
  std::function<void()> work;  // empty: idle
  bool quit = false;

  static std::shared_ptr<Worker> make() {
    auto worker = std::make_shared<Worker>();
    // Nobody joins a thread that may never end; it keeps what it uses alive itself.
    std::thread([worker] { worker->serve(); }).detach();
    return worker;
  }

  void serve() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return quit || work; });
      if (!work) return;
      lock.unlock();
      work();
      std::function<void()> done;
      lock.lock();
      done = std::exchange(work, nullptr);
      changed.notify_all();
      lock.unlock();
      done = nullptr;  // what it owns may take its time to go
      lock.lock();
    }
  }
};

Lane::Lane() : worker_(Worker::make()) {}

Lane::~Lane() {
  const std::scoped_lock lock(worker_->mutex);
  worker_->quit = true;
  worker_->changed.notify_all();
}

bool Lane::run(std::function<void()> work, std::chrono::milliseconds limit) {
  start(std::move(work));
  return finish(limit);
}

void Lane::start(std::function<void()> work) {
  const std::scoped_lock lock(worker_->mutex);
  worker_->work = std::move(work);
  worker_->changed.notify_all();
}

bool Lane::finish(std::chrono::milliseconds limit) {
  std::unique_lock lock(worker_->mutex);
  if (worker_->changed.wait_for(lock, limit, [this] { return !worker_->work; })) return true;
  worker_->quit = true;
  lock.unlock();
  worker_ = Worker::make();
  return false;
}

}  // namespace gangway::conformance
