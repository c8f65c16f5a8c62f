/*
 * Preloaded into QEMU, so that guests can make sockets and pipes in shared volumes.
 *
 * QEMU 7.2 to 9.1 refuse every descriptor of a special file below a 9p share, as the answer to
 * CVE-2023-2861, also those opened with O_PATH on their way to a chmod: mknod then fails with ENXIO.
 * No I/O is possible on an O_PATH descriptor, so that check is needed for all others only; QEMU 9.2
 * makes the same difference. Here fstat calls such a socket or pipe a regular file.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static long call(long number, long first, long second, long third) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(first), "S"(second), "d"(third)
                   : "rcx", "r11", "memory");
  return result;
}

extern int *__errno_location(void);

int fstat64(int fd, struct stat *about) {
  long result = call(SYS_fstat, fd, (long)about, 0);
  if (result < 0) {
    *__errno_location() = (int)-result;
    return -1;
  }
  long flags = call(SYS_fcntl, fd, F_GETFL, 0);
  if (flags > 0 && flags & 010000000 /* O_PATH */ &&
      (S_ISSOCK(about->st_mode) || S_ISFIFO(about->st_mode)))
    about->st_mode = (about->st_mode & ~(mode_t)S_IFMT) | S_IFREG;
  return 0;
}

int fstat(int fd, struct stat *about) { return fstat64(fd, about); }
