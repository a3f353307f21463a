// Command mutants shows that the tests miss no guard: `make mutants`.
//
// A guard is a clause of a statement or a line of code that keeps one of the library's promises. The program takes one away at a
// time and runs the one test that is to notice. Nothing is changed in the checkout: all is done in a temporary copy of it, where
// the compiler is given the changed file in place of the real one (go build's -overlay). README.md beside this file has the table of all
// guards; a test keeps it equal to the code, and demands that the text of each guard stands in its file exactly once.
//
// First the tests must pass with all guards in place. Then, for each guard, the package's tests must compile without it, and the test that is named
// must fail: by a failure that it reports, not by a panic, a timeout or a compiler's error. Two guards are worked on at a time.
//
// Variables of the environment: ONLY=NAME,NAME takes only these guards; PGTEST_URL or DATABASE_URL names the server for the tests'
// databases, else each test's program starts one of its own. The flag -l lists the guards, and -t prints the table of README.md. The last line is "mutants: OK: …" or
// "mutants: FAILED: …", with exit code 1; what a test without its guard said is shown where that was not as demanded.
package main
