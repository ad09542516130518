#include "faulty_wire/wire_editors.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "vfio_user/negotiation.h"

namespace gangway::faulty {
namespace {

using namespace vfio_user;

// Beyond all that the specification numbers and that we do.
bool is_unknown(const RelayedMessage& message) {
  constexpr auto kLastSpecified = static_cast<std::uint16_t>(Command::MigDataWrite);
  return message.header.command > kLastSpecified && !message.is(Command::MigDataReadShared) &&
         !message.is(Command::MigDataWriteShared);
}

// WIR-FRAME: one read is taken for a whole header.
class SplitHeaderRefused : public MessageEditor {
 public:
  [[nodiscard]] bool takes_split_headers() const override { return false; }
};

// WIR-FRAME: what is not known is refused by its header, and its body taken for the next message.
class RefusedBodyLeft : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    if (message.is_command() && is_unknown(message)) message.header.size = sizeof message.header;
  }
};

// WIR-FRAME: the refusal does not say what is refused.
class RefusalUnderAnotherId : public MessageEditor {
 public:
  void to_client(RelayedMessage& message) override {
    if (message.is_failure() && is_unknown(message)) message.header.id = 0;
  }
};

// WIR-NOREPLY: the flag is not looked at.
class ReplyToNoReply : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    if (message.is_command()) message.header.flags &= ~kNoReply;
  }
};

// WIR-NOREPLY: what nobody waits for is not done.
class NoReplyDropped : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    if (message.is_command() && (message.header.flags & kNoReply) != 0) {
      message.leaves = RelayedMessage::Leaves::NotAtAll;
    }
  }
};

// WIR-SHAPE: the reply is the request again, for memory that comes without a descriptor.
class MapReplyEchoes : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    if (!message.is_command() || !message.is(Command::DmaMap) || !message.fds.empty()) return;
    const std::scoped_lock lock(mutex_);
    asked_[message.header.id] = message.body;
  }
  void to_client(RelayedMessage& message) override {
    if (!message.is_success() || !message.is(Command::DmaMap)) return;
    const std::scoped_lock lock(mutex_);
    if (auto asked = asked_.extract(message.header.id)) message.replace_body(std::move(asked.mapped()));
  }

 private:
  std::mutex mutex_;
  std::map<std::uint16_t, std::vector<std::byte>> asked_;
};

// WIR-SHAPE: success is all that is said.
class UnmapReplyEmpty : public MessageEditor {
 public:
  void to_client(RelayedMessage& message) override {
    if (message.is_success() && message.is(Command::DmaUnmap)) message.replace_body({});
  }
};

// WIR-REPLY: two writes.
class HeaderSentAlone : public MessageEditor {
 public:
  void to_client(RelayedMessage& message) override {
    if (message.is_success() && message.is(Command::DeviceGetRegionInfo)) {
      message.leaves = RelayedMessage::Leaves::HeaderAlone;
    }
  }
};

// WIR-NEGOTIATE: the client's limit is not looked at, so the default holds.
class TransferLimitIgnored : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    change_capabilities(message, [](Capabilities& said) {
      said.max_data_xfer_size = std::max(said.max_data_xfer_size, kDefaultMaxDataXferSize);
    });
  }
};

// PRE-INFO-V2: the caller's structure is filled in where it lies, and its flags stay.
class PrecopyFlagsEchoed : public MessageEditor {
 public:
  void to_server(RelayedMessage& message) override {
    const auto info = info_of(message);
    if (!message.is_command() || !info) return;
    const std::scoped_lock lock(mutex_);
    asked_[message.header.id] = info->flags;
  }
  void to_client(RelayedMessage& message) override {
    auto info = info_of(message);
    if (!message.is_success() || !info) return;
    const std::scoped_lock lock(mutex_);
    const auto asked = asked_.extract(message.header.id);
    if (!asked) return;
    info->flags |= asked.mapped();
    (void)store_at(std::span(message.body), sizeof(FeatureHeader), *info);
  }

 private:
  static std::optional<FeaturePrecopyInfo> info_of(const RelayedMessage& message) {
    if (!message.is(Command::DeviceFeature)) return std::nullopt;
    const auto feature = load_at<FeatureHeader>(message.body);
    if (!feature || (feature->flags & kFeatureMask) != kFeaturePrecopyInfo) return std::nullopt;
    return load_at<FeaturePrecopyInfo>(message.body, sizeof(FeatureHeader));
  }

  std::mutex mutex_;
  std::map<std::uint16_t, std::uint32_t> asked_;  // flags of requests that have some
};

template <class T>
std::unique_ptr<MessageEditor> make() {
  return std::make_unique<T>();
}

}  // namespace

std::unique_ptr<MessageEditor> make_editor(WireFault fault) {
  using Make = std::unique_ptr<MessageEditor> (*)();
  static constexpr std::array<std::pair<WireFault, Make>, 11> kMakers{{
      {WireFault::None, make<MessageEditor>},
      {WireFault::SplitHeaderRefused, make<faulty::SplitHeaderRefused>},
      {WireFault::RefusedBodyLeft, make<faulty::RefusedBodyLeft>},
      {WireFault::RefusalUnderAnotherId, make<faulty::RefusalUnderAnotherId>},
      {WireFault::ReplyToNoReply, make<faulty::ReplyToNoReply>},
      {WireFault::NoReplyDropped, make<faulty::NoReplyDropped>},
      {WireFault::MapReplyEchoes, make<faulty::MapReplyEchoes>},
      {WireFault::UnmapReplyEmpty, make<faulty::UnmapReplyEmpty>},
      {WireFault::HeaderSentAlone, make<faulty::HeaderSentAlone>},
      {WireFault::TransferLimitIgnored, make<faulty::TransferLimitIgnored>},
      {WireFault::PrecopyFlagsEchoed, make<faulty::PrecopyFlagsEchoed>},
  }};
  return std::ranges::find(kMakers, fault, &std::pair<WireFault, Make>::first)->second();
}

}  // namespace gangway::faulty
