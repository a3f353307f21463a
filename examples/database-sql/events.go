package main

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// schema makes the tables of the read models.
//
//go:embed schema.sql
var schema string

// orders is the scope of all projections.
type orders struct{}

// AggregateTypes limits a projection to orders: other events are not even read.
func (orders) AggregateTypes() []string { return []string{"Order"} }

// item is the payload of ItemAdded.
type item struct {
	Item  string `json:"item"`
	Price int    `json:"price"`
}

// itemOf reads it.
func itemOf(event es.PersistedEvent) (i item, err error) {
	if err := json.Unmarshal(event.Payload, &i); err != nil {
		return item{}, fmt.Errorf("reading the item of order %s: %w", event.AggregateID, err)
	}
	return i, nil
}
