#include "migrate/conversation.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "base/printable.h"

namespace gangway::migrate {
namespace {

constexpr std::chrono::milliseconds kLastWordsWait{200};
constexpr std::size_t kMaxStrayMessages = 4096;  // ALIVE and the like before the failure

struct FailureHead {
  std::int32_t code = EIO;
  std::uint32_t ran = 0;
};

}  // namespace

std::vector<std::byte> encode(const PeerFailure& failure) {
  const FailureHead head{.code = failure.error.code, .ran = failure.ran ? 1U : 0U};
  const std::size_t room = std::min(failure.error.message.size(), kMaxFailure - sizeof head);
  std::vector<std::byte> out(sizeof head + room);
  std::memcpy(out.data(), &head, sizeof head);
  std::memcpy(out.data() + sizeof head, failure.error.message.data(), room);
  return out;
}

PeerFailure decode_failure(std::span<const std::byte> payload) {
  const auto head = load_at<FailureHead>(payload);
  // What cannot be read promises nothing: it may have run.
  if (!head) return {.error = {EPROTO, "no reason given", {}}, .ran = true};
  const std::span<const std::byte> said = payload.subspan(sizeof(FailureHead));
  std::string text = printable({reinterpret_cast<const char*>(said.data()), said.size()});
  const bool plausible = head->code > 0 && head->code < 4096;
  return {.error = {plausible ? head->code : EIO, std::move(text), {}}, .ran = head->ran != 0};
}

Result<Channel::Message> next_message(Channel& channel, std::vector<std::byte> reuse) {
  for (;;) {
    auto message = channel.receive(std::move(reuse));
    if (!message || message->type != MessageType::Alive) return message;
    reuse = std::move(message->payload);
  }
}

std::optional<PeerFailure> last_words(Channel& channel) {
  for (std::size_t i = 0; i < kMaxStrayMessages && channel.readable(kLastWordsWait); ++i) {
    auto message = channel.receive();
    if (!message) return std::nullopt;
    if (message->type == MessageType::Failed) return decode_failure(message->payload);
  }
  return std::nullopt;
}

}  // namespace gangway::migrate
