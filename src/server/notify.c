/* See notify.h. */
#include "server/notify.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

void notify_ready(void)
{
	sd_notify(0, "READY=1");
}

void notify_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_update());
}

void notify_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}

void notify_status(const char *text)
{
	sd_notifyf(0, "STATUS=%s", text);
}

void notify_main_pid(pid_t pid)
{
	sd_notifyf(0, "MAINPID=%ld", (long)pid);
}

usec_t notify_watchdog_period(void)
{
	uint64_t period;

	return sd_watchdog_enabled(0, &period) > 0 ? period / 2 : 0;
}

void notify_watchdog(void)
{
	sd_notify(0, "WATCHDOG=1");
}
#else
void notify_ready(void)
{
}

void notify_reloading(void)
{
}

void notify_stopping(void)
{
}

void notify_status(const char *text)
{
	(void)text;
}

void notify_main_pid(pid_t pid)
{
	(void)pid;
}

usec_t notify_watchdog_period(void)
{
	return 0;
}

void notify_watchdog(void)
{
}
#endif
