package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// keepPatience is longer than anybody watches.
const keepPatience = 10000 * time.Hour

// showPage serves the status page, and says where. Whoever reaches it may act: it is on this machine only, and so is the database.
func (d *demo) showPage(ctx context.Context) (err error) {
	if d.pagePool, err = d.database.Target.Pool(ctx, 2); err != nil {
		return err
	}
	a, err := admin.New(d.pagePool, eventstore.New(eventstore.WithLogger(nil)), replicaSet)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serving the status page: %w", err)
	}
	page := statuspage.New(a, statuspage.WithInterval(refresh), statuspage.WithAccess(func(*http.Request) statuspage.Access {
		return statuspage.Access{Act: true, Payloads: statuspage.FullPayloads}
	}))
	d.page = &http.Server{Handler: page, ReadHeaderTimeout: time.Second}
	go func() { _ = d.page.Serve(listener) }() // until close
	d.screen.say(fmt.Sprintf("The status page is http://%s/", listener.Addr()))
	return nil
}

// keep goes on until a person interrupts it.
func (d *demo) keep(ctx context.Context) error {
	d.tell("KEEP=1: this goes on until Ctrl-C")
	return d.until(ctx, keepPatience, "a person interrupts it", func(workload.Snapshot) bool { return false })
}
