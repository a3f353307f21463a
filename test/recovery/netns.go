package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// host is a network namespace with a link to this machine's: what runs in it is on a host of its own. Only root on Linux can make one.
type host struct {
	name    string // of the namespace
	inside  string // the name of the link's end in the namespace
	outside string // and of the other
	address string // of the other
}

// hostNetwork is where hosts get their addresses, four each.
const hostNetwork = "10.213.0.0/16"

// hostsPossible says why there can be no hosts; nil if there can.
func hostsPossible() error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("network namespaces need root on Linux")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("network namespaces need the command ip, of the package iproute2: %w", err)
	}
	return nil
}

// newHost makes the n-th host, from 0. The caller closes it.
func newHost(ctx context.Context, n int) (*host, error) {
	h := &host{
		name: fmt.Sprintf("recovery-%d-%d", os.Getpid(), n), inside: "uplink", outside: fmt.Sprintf("rec%d-%d", os.Getpid()%100_000, n),
		address: fmt.Sprintf("10.213.%d.1", n),
	}
	for _, command := range []string{
		"netns add " + h.name,
		"link add " + h.outside + " type veth peer name " + h.inside + " netns " + h.name,
		"addr add " + h.address + "/30 dev " + h.outside,
		"link set " + h.outside + " up",
		fmt.Sprintf("-n %s addr add 10.213.%d.2/30 dev %s", h.name, n, h.inside),
		"-n " + h.name + " link set " + h.inside + " up",
	} {
		if err := ip(ctx, command); err != nil {
			return nil, errors.Join(fmt.Errorf("making host %s: %w", h.name, err), h.close())
		}
	}
	return h, nil
}

// through is what a command begins with that is to run on the host.
func (h *host) through() []string { return []string{"ip", "netns", "exec", h.name} }

// down takes the host's link down: nothing reaches it or comes from it, and nobody is told.
func (h *host) down(ctx context.Context) error {
	return ip(ctx, "-n "+h.name+" link set "+h.inside+" down")
}

// up takes it up again.
func (h *host) up(ctx context.Context) error {
	return ip(ctx, "-n "+h.name+" link set "+h.inside+" up")
}

// close removes the host, whose processes must have ended, and its link.
func (h *host) close() error {
	return ip(context.Background(), "netns del "+h.name)
}

func ip(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "ip", strings.Fields(command)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}
