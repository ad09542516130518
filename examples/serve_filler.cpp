// Serves one filler device on a UNIX socket until its client is gone and the process is ended.
#include <cstdio>

#include <gangway/server.h>

#include "filler.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: serve_filler SOCKET\n", stderr), 2;
  auto endpoint = gangway::Endpoint::create(std::make_unique<Filler>());
  if (!endpoint) return std::fprintf(stderr, "%s\n", endpoint.error().message.c_str()), 1;
  auto server = gangway::Server::listen(argv[1], **endpoint);
  if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 1;
  if (auto started = (*server)->start(); !started) {
    return std::fprintf(stderr, "%s\n", started.error().message.c_str()), 1;
  }
  (*server)->wait();
}
