#include "base/unix_socket.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace gangway {
namespace {

constexpr std::chrono::seconds kPatience{5};

// The thread goes by the permissions of files, also as root.
class WithoutRightToReadAll {
 public:
  WithoutRightToReadAll() {
    EXPECT_EQ(::syscall(SYS_capget, &header_, had_.data()), 0);
    auto has = had_;
    has[0].effective &= ~(1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH);
    EXPECT_EQ(::syscall(SYS_capset, &header_, has.data()), 0);
  }
  ~WithoutRightToReadAll() { EXPECT_EQ(::syscall(SYS_capset, &header_, had_.data()), 0); }
  WithoutRightToReadAll(const WithoutRightToReadAll&) = delete;
  WithoutRightToReadAll& operator=(const WithoutRightToReadAll&) = delete;

 private:
  __user_cap_header_struct header_{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> had_{};
};

class UnixSocket : public testing::Test {
 protected:
  UnixSocket() {
    std::string name = (std::filesystem::temp_directory_path() / "unix-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    path_ = folder_ / "it.sock";
  }
  ~UnixSocket() override { std::filesystem::remove_all(folder_); }

  // A socket file as one who was killed leaves it.
  void leave_one() const {
    const auto killed = listen_unix(folder_ / "killed.sock");
    ASSERT_TRUE(killed);
    std::filesystem::create_hard_link(folder_ / "killed.sock", path_);
  }

  std::filesystem::path folder_, path_;
};

TEST_F(UnixSocket, is_reached_by_its_path_and_its_file_goes_with_it) {
  {
    const auto listener = listen_unix(path_);
    ASSERT_TRUE(listener) << listener.error().message;
    EXPECT_EQ(listener->file.path(), path_);
    EXPECT_TRUE(connect_unix(path_, kPatience));
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixSocket, that_is_in_use_is_left_alone) {
  const auto first = listen_unix(path_);
  const auto second = listen_unix(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_TRUE(connect_unix(path_, kPatience));
}

TEST_F(UnixSocket, that_is_left_over_is_replaced) {
  leave_one();
  EXPECT_EQ(connect_unix(path_, kPatience).error().code, ECONNREFUSED);
  const auto listener = listen_unix(path_);
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_TRUE(connect_unix(path_, kPatience));
}

TEST_F(UnixSocket, does_not_take_another_kind_of_file) {
  std::ofstream(path_) << "mine";
  const auto listener = listen_unix(path_);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().message, "listen on '" + path_.string() + "': a file that is no socket is there");
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(UnixSocket, does_not_remove_the_file_of_who_came_after_it) {
  auto first = listen_unix(path_);
  ASSERT_TRUE(first);
  std::filesystem::remove(path_);
  const auto second = listen_unix(path_);
  ASSERT_TRUE(second);
  first->file.remove();
  EXPECT_TRUE(connect_unix(path_, kPatience));
}

TEST_F(UnixSocket, moves_with_its_file) {
  auto first = listen_unix(path_);
  auto second = listen_unix(folder_ / "second.sock");
  ASSERT_TRUE(first && second);
  first->file = std::move(second->file);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(first->file.path(), folder_ / "second.sock");
  EXPECT_TRUE(std::filesystem::exists(folder_ / "second.sock"));
}

TEST_F(UnixSocket, of_several_that_begin_at_once_one_gets_the_path) {
  constexpr int kRounds = 100;
  constexpr int kThreads = 4;
  for (int round = 0; round < kRounds; ++round) {
    leave_one();
    std::barrier begin(kThreads);
    std::barrier end(kThreads);
    std::atomic<int> listening = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        begin.arrive_and_wait();
        const auto listener = listen_unix(path_);
        if (listener) ++listening;
        end.arrive_and_wait();
      });
    }
    threads.clear();
    ASSERT_EQ(listening, 1) << "in round " << round;
  }
}

TEST_F(UnixSocket, does_not_wait_for_ever_in_a_directory_that_is_locked) {
  const Fd lock(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
  const auto listener = listen_unix(path_);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, EBUSY);
}

TEST_F(UnixSocket, needs_no_directory_that_can_be_read) {
  ASSERT_EQ(::chmod(folder_.c_str(), 0300), 0);
  {
    const WithoutRightToReadAll ordinary;
    ASSERT_EQ(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), -1);
    EXPECT_TRUE(listen_unix(path_));
  }
  ASSERT_EQ(::chmod(folder_.c_str(), 0700), 0);
}

TEST_F(UnixSocket, has_a_path_that_fits) {
  EXPECT_EQ(listen_unix(folder_ / std::string(100, 'x')).error().code, ENAMETOOLONG);
  EXPECT_EQ(connect_unix("", kPatience).error().code, ENAMETOOLONG);
}

}  // namespace
}  // namespace gangway
