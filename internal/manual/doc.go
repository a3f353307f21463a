// Package manual defines the rows in which the manual runner keeps its positions and the ranges of slots that they
// cover. It computes the position of each slot when the number of partitions changes. The processor uses it to run, and
// package admin to import.
package manual
