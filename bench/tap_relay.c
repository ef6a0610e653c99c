/* A relay between a TAP and one client on a SOCK_SEQPACKET socket, in place of a switch.
 *
 *     tap_relay TAP SOCKET
 *
 * It creates the TAP, listens on the socket, and ends with its client.  A message is a frame.  It
 * moves as many messages per system call as it can, and waits only when there are none, to leave the
 * CPUs to the program under test.  A frame for which the client has no room is dropped.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Frames per round; the longest frame and the socket buffers in bytes. */
enum { BATCH = 64, LARGEST = 65536 + 128, BUFFER = 1024 * 1024 };

static unsigned char frames[BATCH][LARGEST];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static int open_tap(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0)
		err(1, "%s", name);
	return tap;
}

static int accept_one(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int size = BUFFER, client, listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	unlink(path);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
		err(1, "%s", path);
	client = accept(listener, NULL, NULL);
	if (client < 0)
		err(1, "accept");
	setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	close(listener);
	return client;
}

/* Both functions return the number of frames that they moved or dropped. */

static int to_client(int tap, int client)
{
	int count = 0, sent = 0, done;
	ssize_t size;

	while (count < BATCH && (size = read(tap, frames[count], LARGEST)) > 0)
		parts[count++].iov_len = size;
	if (count == 0 && errno != EAGAIN && errno != EIO)
		err(1, "the TAP");
	while (sent < count) {
		done = sendmmsg(client, messages + sent, count - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN)
			err(1, "the client");
		if (done < 0)
			break;
		sent += done;
	}
	return count;
}

static int to_tap(int client, int tap)
{
	int count, n;

	for (n = 0; n < BATCH; n++)
		parts[n].iov_len = LARGEST;
	count = recvmmsg(client, messages, BATCH, MSG_DONTWAIT, NULL);
	for (n = 0; n < count; n++) {
		if (messages[n].msg_len == 0)
			_exit(0);
		/* An interface that is down refuses frames with EIO. */
		if (write(tap, frames[n], messages[n].msg_len) < 0 && errno != EIO)
			err(1, "the TAP");
	}
	return count > 0 ? count : 0;
}

int main(int argc, char **argv)
{
	int tap, client, n;

	if (argc != 3)
		errx(2, "usage: tap_relay TAP SOCKET");
	for (n = 0; n < BATCH; n++) {
		parts[n].iov_base = frames[n];
		messages[n].msg_hdr.msg_iov = &parts[n];
		messages[n].msg_hdr.msg_iovlen = 1;
	}
	tap = open_tap(argv[1]);
	client = accept_one(argv[2]);
	for (;;) {
		struct pollfd both[] = {{.fd = tap, .events = POLLIN}, {.fd = client, .events = POLLIN}};

		/* Wait only if neither side had a frame. */
		if (to_client(tap, client) + to_tap(client, tap) == 0)
			poll(both, 2, -1);
	}
}
