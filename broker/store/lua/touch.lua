-- Executions of the run are held by a live worker: that is activity, and moves the run's end.
-- KEYS run_keys
-- RETURNS touched: nothing else
-- INCLUDE clock pages counts lifetime
keep_run()
return { 'touched' }
