package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAJobIsDoneWhenAllItsEventsAreCounted(t *testing.T) {
	t.Parallel()
	var p progress
	assert.False(t, p.outcome(false).Done, "it has not said what it counts")
	a, b := p.counter(2), p.counter(100)
	p.begin()
	began := p.outcome(false).Began
	p.begin()
	a.add(1)
	a.add(1)
	b.add(99)
	o := p.outcome(false)
	assert.False(t, o.Done)
	assert.Equal(t, int64(101), o.Events)
	b.add(5)
	a.add(1)
	o = p.outcome(false)
	assert.True(t, o.Done)
	assert.Equal(t, int64(102), o.Events, "no more than are wanted")
	assert.Equal(t, began, o.Began, "the first time counts")
	assert.GreaterOrEqual(t, o.Ended, o.Began)
}

func TestAJobWithoutAnEndIsDoneWhenItSaysSo(t *testing.T) {
	t.Parallel()
	var p progress
	c := p.counter(0)
	c.add(1000)
	assert.False(t, p.outcome(false).Done)
	assert.NotZero(t, p.outcome(false).Ended)
	c.finish()
	assert.True(t, p.outcome(false).Done)
}

func TestMomentsAreToldAtTheEnd(t *testing.T) {
	t.Parallel()
	var p progress
	p.note(7)
	p.fail(errors.New("it broke"))
	assert.Empty(t, p.outcome(false).Moments)
	o := p.outcome(true)
	assert.Equal(t, int64(7), o.Moments[0].Number)
	assert.Equal(t, "it broke", o.Err)
	assert.Positive(t, o.CPU)
}

func TestOutcomesOfProcessesAddUp(t *testing.T) {
	t.Parallel()
	var all outcome
	for _, o := range []outcome{{Events: 3, Began: 20, Ended: 50}, {}, {Events: 4, Began: 10, Ended: 40}} {
		all = all.and(o)
	}
	assert.Equal(t, outcome{Events: 7, Began: 10, Ended: 50}, all)
}
