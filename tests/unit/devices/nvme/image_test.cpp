#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/nvme/namespace.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

TEST(NvmeImageLock, excludes_a_second_writer_in_the_same_process) {
  TemporaryImage image(1U << 20);
  auto one = Namespace::open({.path = image.path()});
  auto two = Namespace::open({.path = image.path()});
  ASSERT_TRUE(one && two);
  ASSERT_TRUE(one->lock());
  EXPECT_TRUE(one->lock()) << "taking it twice is no error";
  const auto refused = two->lock();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBUSY);
  EXPECT_NE(refused.error().message.find(image.path().string()), std::string::npos) << refused.error().message;
  one->unlock();
  EXPECT_TRUE(two->lock());
}

TEST(NvmeImageLock, readers_share_and_exclude_a_writer) {
  TemporaryImage image(1U << 20);
  auto one = Namespace::open({.path = image.path(), .read_only = true});
  auto two = Namespace::open({.path = image.path(), .read_only = true});
  auto writer = Namespace::open({.path = image.path()});
  ASSERT_TRUE(one && two && writer);
  EXPECT_TRUE(one->lock());
  EXPECT_TRUE(two->lock());
  EXPECT_FALSE(writer->lock());
}

TEST(NvmeImageLock, goes_with_the_controller_that_held_it) {
  TemporaryImage image(1U << 20);
  auto two = Namespace::open({.path = image.path()});
  {
    auto one = Namespace::open({.path = image.path()});
    ASSERT_TRUE(one && one->lock());
    ASSERT_FALSE(two->lock());
  }
  EXPECT_TRUE(two->lock());
}

TEST(NvmeNamespace, counts_whole_blocks) {
  TemporaryImage image(4096 * 3 + 700);
  EXPECT_EQ(Namespace::open({.path = image.path()})->blocks(), 25U);
  EXPECT_EQ(Namespace::open({.path = image.path(), .block_size = 4096})->blocks(), 3U);
}

TEST(NvmeNamespace, refuses_what_is_no_image) {
  TemporaryImage image(100);
  const auto code = [](const NamespaceOptions& options) {
    const auto opened = Namespace::open(options);
    return opened ? 0 : opened.error().code;
  };
  EXPECT_EQ(code({.path = "/nonexistent/a.img"}), ENOENT);
  EXPECT_EQ(code({.path = "/dev/null"}), EINVAL);
  EXPECT_EQ(code({.path = "/tmp", .read_only = true}), EINVAL);
  EXPECT_EQ(code({.path = image.path()}), EINVAL) << "no whole block";
  EXPECT_EQ(code({.path = image.path(), .block_size = 1024}), EINVAL);
  const std::string fifo = image.path().string() + ".fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(code({.path = fifo}), EINVAL) << "and did not wait for its other end";
  ::unlink(fifo.c_str());
}

TEST(NvmeController, refuses_options_that_make_no_controller) {
  TemporaryImage image(1U << 20);
  const auto code = [&](ControllerOptions options) {
    const auto made = Controller::create(std::move(options));
    return made ? 0 : made.error().code;
  };
  EXPECT_EQ(code({.namespaces = {{.path = image.path()}}}), 0);
  EXPECT_EQ(code({}), EINVAL) << "no namespace";
  EXPECT_EQ(code({.serial = "", .namespaces = {{.path = image.path()}}}), EINVAL);
  EXPECT_EQ(code({.serial = "123456789012345678901", .namespaces = {{.path = image.path()}}}), EINVAL);
  EXPECT_EQ(code({.serial = "tab\t", .namespaces = {{.path = image.path()}}}), EINVAL);
  EXPECT_EQ(code({.namespaces = {{.path = image.path()}}, .io_queue_pairs = 0}), EINVAL);
  EXPECT_EQ(code({.namespaces = {{.path = image.path()}}, .io_queue_pairs = 17}), EINVAL);
  EXPECT_EQ(code({.namespaces = {{.path = "/nonexistent"}}}), ENOENT);
}

}  // namespace
}  // namespace gangway::nvme::test
