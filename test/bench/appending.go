package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// appenders is how many connections append.
const appenders = 8

// runAppend appends events for some seconds, each in a transaction of its own: on schedule if the job has a rate, else as fast as it
// can. With a rate it notes when each commit returned.
func runAppend(ctx context.Context, j job, p *progress) error {
	config, err := pgxpool.ParseConfig(j.DSN)
	if err != nil {
		return err
	}
	config.MaxConns, config.MinConns = appenders, appenders
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	store := eventstore.New(eventstore.WithLogger(nil))
	appended := p.counter(0)
	if j.Opened {
		if err := openAll(ctx, store, pool); err != nil {
			return err
		}
	}
	p.begin()
	began := time.Now()
	end := began.Add(time.Duration(j.Seconds) * time.Second)
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var running sync.WaitGroup
	failures := make([]error, appenders)
	for i := range appenders {
		running.Go(func() {
			a := appending{job: j, store: store, pool: pool, progress: p, appended: appended, began: began, end: end}
			if failures[i] = a.run(ctx, int64(i)); failures[i] != nil {
				giveUp()
			}
		})
	}
	running.Wait()
	appended.finish()
	return errors.Join(failures...)
}

// openEvery is how far apart the connections' first events are where they append before it begins: so far that a worker is told of each.
const openEvery = 50 * time.Millisecond

// openAll has each of the pool's connections append, one after the other, and waits until a worker is idle again.
func openAll(ctx context.Context, store *eventstore.Store, pool *pgxpool.Pool) error {
	for i := range int64(appenders) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release() // not before all have appended
		if err := appendOne(ctx, store, conn, i); err != nil {
			return err
		}
		if err := wait(ctx, openEvery); err != nil {
			return err
		}
	}
	return wait(ctx, openEvery*appenders)
}

// appending is what one connection does.
type appending struct {
	job        job
	store      *eventstore.Store
	pool       *pgxpool.Pool
	progress   *progress
	appended   *counter
	began, end time.Time
}

// run appends each of the events that are this connection's.
func (a appending) run(ctx context.Context, first int64) error {
	for number := first; ; number += appenders {
		if a.job.Rate > 0 {
			due := a.began.Add(time.Duration(number) * time.Second / time.Duration(a.job.Rate))
			if err := wait(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		if !time.Now().Before(a.end) {
			return nil
		}
		if err := appendOne(ctx, a.store, a.pool, number); err != nil {
			return err
		}
		if a.job.Rate > 0 {
			a.progress.note(number)
		}
		a.appended.add(1)
	}
}

// beginner is a pool or one of its connections.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// liveAggregates is how many aggregates the events are of that are appended.
const liveAggregates = 100 * appenders

// isPoisoned says whether the event with a number is one of the aggregate that is poisoned.
func isPoisoned(number int64) bool { return number%liveAggregates == 0 }

// appendOne appends the event with a number, which is its payload.
func appendOne(ctx context.Context, store *eventstore.Store, db beginner, number int64) error {
	event := es.Event{
		BoundedContext: "sales", AggregateType: commonType, AggregateID: fmt.Sprintf("live-%d", number%liveAggregates), EventType: "OrderPaid",
		Payload: binary.BigEndian.AppendUint64(nil, uint64(number)),
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := store.Append(ctx, tx, es.Any(), []es.Event{event})
		return err
	})
}
